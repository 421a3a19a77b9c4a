"""Grafana's files: complete, consistent with each other, and asking only for what there is."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import REGISTRY

import gateway.metrics
from importer.metrics import ImporterMetrics
from monitoring.grafana.source.alerts import IMPORT_ALERTS
from support import dashboards
from support.dashboards import FILES, GRAFANA
from support.monitoring import MONITORING, ROOT, alerts, promtool, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

# What other servers export and dashboards use, as seen: Orthanc 1.10.1 and 1.12.7 (1.13.0 has these, too),
# Keycloak 26.7.3, nginx exporter 1.4, blackbox exporter 0.25, node exporter 1.8, Prometheus 2.53, backup.sh.
OF_OTHERS = {
    *(f"orthanc_count_{what}" for what in ("patients", "studies", "series", "instances")),
    *(f"orthanc_{what}_mb" for what in ("disk_size", "uncompressed_size")),
    *(f"orthanc_jobs_{what}" for what in ("pending", "running")),
    *(f"orthanc_{what}_ms" for what in ("rest_api_duration", "store_dicom_duration")),
    "orthanc_rest_api_active_requests",
    "keycloak_user_events_total",
    "keycloak_credentials_password_hashing_validations_total",
    "vendor_statistics_approximate_entries_unique",
    *(f"http_server_requests_seconds_{what}" for what in ("count", "sum")),
    *(f"jvm_memory_{what}_bytes" for what in ("used", "max")),
    *(
        f"nginx_connections_{what}"
        for what in ("active", "reading", "writing", "waiting", "accepted", "handled")
    ),
    "nginx_http_requests_total",
    *(f"probe_{what}" for what in ("success", "duration_seconds", "http_status_code")),
    *(f"probe_{what}" for what in ("http_duration_seconds", "ssl_earliest_cert_expiry")),
    *(f"node_filesystem_{what}_bytes" for what in ("avail", "size")),
    *(f"node_memory_{what}_bytes" for what in ("MemAvailable", "MemTotal")),
    "node_cpu_seconds_total",
    "clinicpacs_backup_last_success_timestamp_seconds",
    "up",
    "ALERTS",
}
DASHBOARDS: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in FILES]
DATA_SOURCES = read_yaml(GRAFANA / "provisioning" / "datasources" / "clinicpacs.yaml")["datasources"]
PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboards.panels(dashboard)]

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])


def exported(registry: CollectorRegistry) -> Iterable[str]:
    """The names that a registry's metrics have in an expression."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    for family in registry.collect():
        yield from (f"{family.name}{ending}" for ending in endings.get(family.type, [""]))


def test_the_dashboards_are_as_their_source_says() -> None:
    command = [sys.executable, "-m", "monitoring.grafana.source", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_dashboards_that_were_asked_for_are_there() -> None:
    titles = [dashboard["title"] for dashboard in DASHBOARDS]
    assert sorted(titles) == ["Imports by clinic", "Keycloak", "Nginx", "Orthanc", "Overview"]
    assert len({dashboard["uid"] for dashboard in DASHBOARDS}) == len(DASHBOARDS)


@each_dashboard
def test_a_panel_has_an_id_of_its_own_a_title_and_plain_words(dashboard: dict[str, Any]) -> None:
    everything = [*dashboards.panels(dashboard), *(p for p in dashboard["panels"] if p["type"] == "row")]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in dashboards.panels(dashboard):
        assert panel["title"], panel
        assert len(panel["description"]) > 12, panel["title"]
        assert panel["description"].endswith("."), panel["title"]


@each_dashboard
def test_panels_lie_side_by_side_within_24_columns(dashboard: dict[str, Any]) -> None:
    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return all(
            one[at] < other[at] + other[length] and other[at] < one[at] + one[length]
            for at, length in (("x", "w"), ("y", "h"))
        )

    places = [panel["gridPos"] for panel in dashboards.panels(dashboard)]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def test_every_data_source_that_a_panel_names_is_provisioned() -> None:
    provisioned = {(source["uid"], source["type"]) for source in DATA_SOURCES}
    assert len(provisioned) == len(DATA_SOURCES)
    named = [panel["datasource"] for _, panel in PANELS]
    named += [target["datasource"] for _, panel in PANELS for target in panel["targets"]]
    assert {(source["uid"], source["type"]) for source in named} == provisioned


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    expressions = [query.text for query in dashboards.queries() if query.source == "prometheus"]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert len(rules) > 50
    promtool("check", "rules", "--lint=none", path)


def test_every_metric_in_an_expression_is_one_that_a_server_exports() -> None:
    assert gateway.metrics.REQUESTS
    known = {*exported(ImporterMetrics().registry), *exported(REGISTRY), *OF_OTHERS}
    asked = {
        name: str(query)
        for query in dashboards.queries()
        if query.source == "prometheus"
        for name in dashboards.metrics(query.text)
    }
    assert {name: query for name, query in asked.items() if name not in known} == {}
    assert OF_OTHERS - set(asked) == set(), "recorded, but no panel asks for it"


def test_names_of_metrics_are_told_from_labels_functions_and_words() -> None:
    expression = (
        'sum by (le, clinic) (rate(a_b{c=~"d|e{",f="g h"}[5m])) / on (job) i:j:k'
        " or vector(0) > bool l offset 1h"
    )
    assert dashboards.metrics(expression) == {"a_b", "i:j:k", "l"}


def test_the_lists_of_import_alerts_name_all_rules_about_importing() -> None:
    groups = read_yaml(MONITORING / "prometheus" / "rules" / "imports.yml")["groups"]
    about_importing = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert set(IMPORT_ALERTS) == about_importing
    assert about_importing < {alert.name for alert in alerts()}


@pytest.mark.parametrize("title", ["Imports by clinic", "Overview"])
def test_firing_alerts_are_listed_as_rules_say_and_as_they_are_sent(title: str) -> None:
    kinds = {panel["type"]: panel["options"] for dashboard, panel in PANELS if dashboard["title"] == title}
    names = {source["name"]: source["uid"] for source in DATA_SOURCES}
    assert names[kinds["alertlist"]["datasource"]] == "prometheus"
    assert names[kinds["alertGroups"]["alertmanager"]] == "alertmanager"
    wanted = f'{{alertname=~"{"|".join(IMPORT_ALERTS)}"}}' if title == "Imports by clinic" else ""
    assert kinds["alertlist"]["alertInstanceLabelFilter"] == kinds["alertGroups"]["labels"] == wanted


def test_panels_that_may_be_empty_are_panels() -> None:
    panels = {(dashboard["title"], panel["title"]) for dashboard, panel in PANELS}
    assert set(dashboards.MAY_BE_EMPTY) <= panels


def test_grafana_asks_nobody_outside_and_lets_only_administrators_in() -> None:
    settings = configparser.RawConfigParser()
    settings.read_string((GRAFANA / "grafana.ini").read_text(encoding="utf-8"))
    expected = {
        ("analytics", "reporting_enabled"): "false",
        ("analytics", "check_for_updates"): "false",
        ("analytics", "check_for_plugin_updates"): "false",
        ("news", "news_feed_enabled"): "false",
        ("security", "disable_gravatar"): "true",
        ("snapshots", "external_enabled"): "false",
        ("plugins", "preinstall_disabled"): "true",
        ("plugins", "preinstall_auto_update"): "false",
        ("plugins", "plugin_admin_enabled"): "false",
        ("auth.anonymous", "enabled"): "false",
        ("auth.generic_oauth", "use_pkce"): "true",
        ("auth.generic_oauth", "role_attribute_strict"): "true",
        ("auth.generic_oauth", "role_attribute_path"): "realm_access.roles[?@=='pacs-admin'] && 'Admin'",
        ("auth.generic_oauth", "allow_assign_grafana_admin"): "false",
        ("unified_alerting", "execute_alerts"): "false",
        ("security", "cookie_secure"): "true",
        ("users", "allow_sign_up"): "false",
    }
    assert {key: settings.get(*key) for key in expected} == expected
    home = settings.get("dashboards", "default_home_dashboard_path")
    assert (GRAFANA / home.removeprefix("/etc/grafana/")).is_file()


def test_every_variable_in_grafanas_files_is_in_its_environment() -> None:
    files = [GRAFANA / "grafana.ini", *(GRAFANA / "provisioning").rglob("*.yaml")]
    text = "\n".join(re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8")) for path in files)
    used = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", text))
    assert used == {"PUBLIC_URL", "GRAFANA_CLIENT_SECRET", "MONITOR_DB_PASSWORD"}
    service = read_yaml(ROOT / "docker-compose.yml")["services"]["grafana"]
    assert used <= {*service["environment"], *(each for each in service["secrets"] if isinstance(each, str))}
