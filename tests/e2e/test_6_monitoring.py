"""What operators see: every part is measured, and every panel of every dashboard has something to show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support import dashboards
from support.inbox import drop
from support.stack import wait_until

if TYPE_CHECKING:
    from support.stack import Stack


def targets(stack: Stack) -> list[dict[str, Any]]:
    """Prometheus' targets."""
    address = "http://127.0.0.1:9090/api/v1/targets?state=active"
    said = stack.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", address)
    found: list[dict[str, Any]] = json.loads(said)["data"]["activeTargets"]
    return found


def test_every_part_is_measured(stack: Stack) -> None:
    wait_until(
        lambda: all(each["health"] == "up" for each in targets(stack)),
        60,
        "all of Prometheus' targets are up",
    )
    jobs = "importer gateway orthanc keycloak postgres node nginx blackbox alertmanager prometheus"
    assert {each["labels"]["job"] for each in targets(stack)} >= set(jobs.split())


def test_the_database_is_measured(stack: Stack) -> None:
    assert stack.metric("pg_up") == 1


def test_every_panel_of_every_dashboard_has_data(clinics: Stack) -> None:
    """Each query is asked: Prometheus, and the catalog as the role that Grafana has."""
    drop(clinics, "northside", "for-the-dashboards", "CT", instances=2, seed=6001)
    clinics.clinicpacs("verify", "northside", check=False)
    for _ in range(3):
        clinics.get("/dicom-web/studies")  # refused, and counted

    def rows(statement: str) -> list[Any]:
        command = ["psql", "-U", "postgres", "-d", "catalog", "-At", "-v", "ON_ERROR_STOP=1"]
        asked = f"SET ROLE monitor;\n{statement.rstrip(';')};\n"
        said = clinics.compose("exec", "-T", "postgres", *command, text_in=asked)
        return said.splitlines()[1:]  # the first answers SET

    # A rate needs two scrapes.
    wait_until(
        lambda: not [str(query) for query in dashboards.without_data(clinics.promql, rows)],
        150,
        "every panel has data",
        every=15,
    )


def test_grafanas_role_reads_no_patient(clinics: Stack) -> None:
    command = ["psql", "-U", "postgres", "-d", "catalog", "-At", "-v", "ON_ERROR_STOP=1"]
    for column in ("patient_id", "patient_name", "dicom_json"):
        done = clinics.run(
            "docker", "compose", "exec", "-T", "postgres", *command,
            text_in=f"SET ROLE monitor; SELECT {column} FROM studies;", check=False,
        )  # fmt: skip
        assert done.returncode != 0


@pytest.mark.parametrize("path", ["/help/troubleshooting"])
def test_an_alerts_link_leads_to_its_section(stack: Stack, path: str) -> None:
    address = "http://127.0.0.1:9090/api/v1/rules?type=alert"
    said = json.loads(stack.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", address))
    links = {
        rule["annotations"]["runbook_url"] for group in said["data"]["groups"] for rule in group["rules"]
    }
    assert len(links) > 20
    page = stack.get(path)
    assert page.status_code == 200
    for link in links:
        where, _, name = link.partition("#")
        assert where.endswith(path)
        assert f'id="{name}"' in page.text, name
