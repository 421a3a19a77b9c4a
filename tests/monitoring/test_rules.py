"""Every alert does what it says; see rules/*.yml beside this file for when it fires and when it ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client import REGISTRY

import gateway.metrics  # noqa: F401 - fills the registry
from importer.metrics import FAILURE_REASONS, ImporterMetrics
from support import monitoring
from support.monitoring import MONITORING, ROOT, RULE_FILES, UNIT_TESTS, promtool

if TYPE_CHECKING:
    from pathlib import Path

ALERTS = monitoring.alerts()
SEEDS = {"OrthancDown", "DICOMImportFailed", "DiskSpaceLow", "CertificateExpiringSoon"}
TROUBLESHOOTING = ROOT / "docs" / "TROUBLESHOOTING.md"

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_keep_silent_and_end_as_expected(path: Path) -> None:
    promtool("test", "rules", path)


def test_prometheus_takes_the_configuration() -> None:
    promtool("check", "config", "--lint-fatal", MONITORING / "prometheus" / "prometheus.yml")


def test_every_service_that_is_always_there_is_asked_for_figures() -> None:
    """Or its exporter: else nobody is told that it is dead."""
    configuration = monitoring.read_yaml(MONITORING / "prometheus" / "prometheus.yml")
    groups = [group for job in configuration["scrape_configs"] for group in job.get("static_configs", [])]
    asked = {target for group in groups for target in group["targets"]}
    jobs = {}
    for path in (MONITORING / "prometheus" / "targets").glob("*.yml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8")):
            jobs[group["labels"]["job"]] = group["targets"]
            asked |= set(group["targets"])
    assert jobs == {"loki": ["loki:3100"], "alloy": ["alloy:12345"], "grafana": ["grafana:3000"]}
    services = monitoring.read_yaml(ROOT / "docker-compose.yml")["services"]
    always = {name for name, each in services.items() if "profiles" not in each and name != "migrate"}
    # Without a network, and asked by blackbox-exporter, which is asked for what it asked.
    always -= {"inbox-rights", "blackbox-exporter"}
    hosts = " ".join(asked).replace("localhost", "prometheus")
    assert {name for name in always if not re.search(rf"\b{name}(-exporter)?:", hosts)} == set()


def test_the_alerts_that_were_asked_for_are_there_and_none_twice() -> None:
    names = [alert.name for alert in ALERTS]
    assert set(names) >= SEEDS
    assert len(names) == len(set(names))


@each_alert
def test_an_alert_is_tested_to_fire_to_end_and_to_keep_silent(alert: monitoring.Alert) -> None:
    courses = [test.firing for test in monitoring.unit_tests() if test.alert == alert.name]
    fires_and_ends = [course for course in courses if any(course) and course[-1] == 0]
    silent = [course for course in courses if course and not any(course)]
    assert fires_and_ends, f"no test sees {alert.name} fire and end"
    assert silent, f"no test sees {alert.name} keep silent"


@each_alert
def test_an_alert_tells_an_administrator_what_is_wrong_and_where_to_read_on(alert: monitoring.Alert) -> None:
    assert alert.severity in {"critical", "warning"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert len(alert.annotations["summary"]) <= 80
    page = "{{ $externalLabels.public_url }}/help/troubleshooting"
    assert alert.annotations["runbook_url"] == f"{page}#{alert.name.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    text = TROUBLESHOOTING.read_text(encoding="utf-8")
    chapter = re.search(r"^## Alerts$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert chapter
    sections = re.findall(r"^### (\w+)$", chapter[1], re.MULTILINE)
    assert sorted(sections) == sorted(alert.name for alert in ALERTS)


def test_every_reason_why_a_file_may_fail_is_explained() -> None:
    chapter = TROUBLESHOOTING.read_text(encoding="utf-8").partition("\n## Why a file failed\n")[2]
    explained = {
        reason
        for row in re.findall(r"^\| (`.*?`) \|", chapter, re.MULTILINE)
        for reason in re.findall(r"`([a-z-]+)`", row)
    }
    assert explained == FAILURE_REASONS


def test_every_link_within_the_page_leads_somewhere() -> None:
    text = TROUBLESHOOTING.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= anchors


def test_every_metric_of_ours_in_a_rule_is_one_that_a_service_has() -> None:
    families = [*ImporterMetrics().registry.collect(), *REGISTRY.collect()]
    counted = {family.name for family in families}
    used = {
        name.removesuffix("_total")
        for path in RULE_FILES
        for group in monitoring.read_yaml(path)["groups"]
        for rule in group["rules"]
        for name in re.findall(r"(?<![:\w])((?:importer|gateway)_\w+)", rule["expr"])
    }
    assert used
    assert used <= counted
