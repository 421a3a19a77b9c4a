"""Loki's and Alloy's files fit each other, compose, and the labels that dashboards ask for."""

from __future__ import annotations

import json
import re

from support import dashboards
from support.monitoring import MONITORING, ROOT, read_yaml

LOKI = read_yaml(MONITORING / "loki" / "loki.yml")
ALLOY = (MONITORING / "alloy" / "config.alloy").read_text(encoding="utf-8")
SERVICES = read_yaml(ROOT / "docker-compose.yml")["services"]


def test_loki_keeps_30_days_and_does_delete_what_is_older() -> None:
    assert LOKI["limits_config"]["retention_period"] == "720h"
    assert LOKI["limits_config"]["reject_old_samples_max_age"] == "720h"
    # Without both of these nothing is ever deleted.
    assert LOKI["compactor"]["retention_enabled"] is True
    assert LOKI["compactor"]["delete_request_store"] == "filesystem"


def test_loki_writes_below_its_volume_alone_and_reports_to_nobody() -> None:
    assert "loki:/loki" in SERVICES["loki"]["volumes"]
    paths = [
        text
        for text in re.findall(r'"(/[^"]*)"', json.dumps(LOKI, default=str))
        if not text.startswith("/loki")
    ]
    assert paths == []
    assert LOKI["analytics"] == {"reporting_enabled": False}
    assert not set(SERVICES["loki"]["networks"]) & {"edge"}


def test_loki_is_asked_if_it_is_well_by_itself() -> None:
    # Its image holds no shell and no curl.
    assert SERVICES["loki"]["healthcheck"]["test"][-1] == "-health"
    assert LOKI["server"]["http_listen_port"] == 3100


def test_alloy_reads_the_files_that_compose_shows_it_and_sends_them_to_loki() -> None:
    pattern = re.findall(r'__path__ = "(/[^"]+)"', ALLOY)
    assert pattern == ["/var/lib/docker/containers/*/*-json.log"]
    mounted = [volume.split(":")[-2] for volume in SERVICES["alloy"]["volumes"] if volume.endswith(":ro")]
    assert "/var/lib/docker/containers" in mounted
    assert re.findall(r'url = "([^"]+)"', ALLOY) == ["http://loki:3100/loki/api/v1/push"]


def test_nothing_is_given_the_docker_socket() -> None:
    assert "docker.sock" not in json.dumps(SERVICES)


def test_every_service_logs_the_label_by_which_alloy_knows_it() -> None:
    assert 'expressions = {service = "\\"com.docker.compose.service\\""}' in ALLOY
    for name, service in SERVICES.items():
        if name == "admin":  # its terminal shows passwords
            assert service["logging"] == {"driver": "none"}
            continue
        assert service["logging"]["driver"] == "json-file", name
        assert service["logging"]["options"]["labels"] == "com.docker.compose.service", name


def test_only_three_labels_are_made_of_lines_and_none_of_free_text() -> None:
    labels = re.findall(r"stage\.labels \{\s+values = \{([^}]*)\}", ALLOY)
    assert sorted(re.findall(r"(\w+) =", " ".join(labels))) == ["level", "service", "stream"]
    template = re.search(r'source\s+= "level"\s+template = "([^\n]*)"', ALLOY)
    assert template
    # A client's user agent may say level=anything: only words of this list come out.
    assert template[1].endswith("critical{{ end }}")


def test_the_log_queries_of_dashboards_ask_for_labels_that_alloy_makes() -> None:
    asked = [query.text for query in dashboards.queries() if query.source == "loki"]
    assert len(asked) == 3
    for text in asked:
        selector = re.search(r"\{([^}]*)\}", text)
        assert selector
        assert set(re.findall(r"(\w+)=", selector[1])) <= {"service", "stream", "level"}


def test_the_log_queries_of_dashboards_ask_for_fields_that_nginx_writes() -> None:
    log_format = (ROOT / "nginx" / "snippets" / "access-log.conf").read_text(encoding="utf-8")
    written = set(re.findall(r'"(\w+)":', log_format))
    for query in dashboards.queries():
        if query.source == "loki":
            assert set(re.findall(r'\w+="(\w+)"', query.text.partition("| json")[2])) <= written
