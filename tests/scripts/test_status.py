"""`make status`: one look, also with half of the platform down."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.shell import Machine

RUNNING = """\
nginx|running|Up 2 hours (healthy)|clinicpacs-nginx:local
keycloak|running|Up 2 hours (healthy)|quay.io/keycloak/keycloak:26.7.3
migrate|exited|Exited (0) 2 hours ago|clinicpacs:local
grafana|running|Up 2 hours|grafana/grafana:13.1.0"""


@pytest.fixture(autouse=True)
def installed(machine: Machine) -> None:
    """A platform where all is well."""
    (machine.root / ".env").write_text(
        "PUBLIC_URL=https://pacs.example.org\nDOMAIN=pacs.example.org\n"
        "ALERT_EMAIL_TO=operator@example.org\nSMTP_HOST=mail.example.org\n"
    )
    machine.answer("services", "nginx\nkeycloak\nmigrate\ngrafana")
    machine.answer("containers", RUNNING)
    machine.answer("run", "the clinics' table")
    assert machine.run("./scripts/generate-certs.sh", "self-signed").returncode == 0
    backed_up(machine, time.time() - 3.5 * 3600)


def backed_up(machine: Machine, at: float, dicom: str = "includes_dicom 1") -> None:
    folder = machine.root / "backups/metrics"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clinicpacs_backup.prom").write_text(
        "# HELP clinicpacs_backup_bytes Size.\n# TYPE clinicpacs_backup_bytes gauge\n"
        f"clinicpacs_backup_last_success_timestamp_seconds {at:.9e}\n"
        f"clinicpacs_backup_bytes 3210000000\nclinicpacs_backup_{dicom}\n"
    )


def status(machine: Machine, *, ends: int = 0) -> str:
    done = machine.run("./scripts/status.sh")
    assert done.returncode == ends, done.stdout
    return done.stdout


def test_all_is_well(machine: Machine) -> None:
    lines = status(machine).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line and line[0].isalpha()}
    assert rows["keycloak"][1:] == [
        "Up",
        "2",
        "hours",
        "(healthy)",
        "26.7.3",
        "https://pacs.example.org/auth/admin",
    ]
    assert rows["nginx"][-1] == "https://pacs.example.org/"
    assert rows["migrate"][-1] == "local"
    said = "\n".join(lines)
    assert "3 h ago, 3.2 GB, with images" in said
    # Within the second in which it was made it has one day more.
    assert re.search("CN=pacs.example.org,O=clinicpacs, self-signed, 82[45] days left", said)
    assert "e-mail to operator@example.org" in said
    assert "the clinics' table" in said
    assert "<--" not in said


@pytest.mark.parametrize(
    ("service", "row"),
    [
        ("keycloak", "keycloak|running|Up 2 hours (unhealthy)|quay.io/keycloak/keycloak:26.7.3"),
        ("keycloak", "keycloak|running|Up 5 seconds (health: starting)|quay.io/keycloak/keycloak:26.7.3"),
        ("keycloak", "keycloak|exited|Exited (137) 2 hours ago|quay.io/keycloak/keycloak:26.7.3"),
        ("keycloak", ""),
        ("migrate", "migrate|exited|Exited (2) 2 hours ago|clinicpacs:local"),
        ("grafana", "grafana|restarting|Restarting (1) 2 seconds ago|grafana/grafana:13.1.0"),
    ],
)
def test_what_is_not_right_is_marked(machine: Machine, service: str, row: str) -> None:
    rows = [row if line.startswith(f"{service}|") else line for line in RUNNING.splitlines()]
    machine.answer("containers", "\n".join(line for line in rows if line))
    said = status(machine, ends=1)
    assert [line.split()[0] for line in said.splitlines() if line.endswith("<--") or " <-- " in line] == [
        service
    ]
    assert f"error: problems with: {service}\n" in said


def test_with_everything_down_all_that_can_be_told_is_told(machine: Machine) -> None:
    machine.answer("containers", "")
    machine.answer("run", "clinicpacs: the catalog cannot be reached", fails=True)
    (machine.root / "certs/fullchain.pem").unlink()
    (machine.root / "backups/metrics/clinicpacs_backup.prom").unlink()
    said = status(machine, ends=1)
    assert said.count("not there") == 4
    for sentence in ("never (make backup)", "none that can be read", "the catalog cannot be reached"):
        assert sentence in said


def test_alerts_that_reach_nobody_are_told(machine: Machine) -> None:
    env = machine.root / ".env"
    env.write_text(env.read_text().replace("SMTP_HOST=mail.example.org", "SMTP_HOST="))
    assert "alerts go to     nobody" in status(machine)
    env.write_text(env.read_text() + "TELEGRAM_BOT_TOKEN=1:x\nTELEGRAM_CHAT_ID=-5\n")
    said = status(machine)
    assert "alerts go to     Telegram\n" in said
    assert "1:x" not in said


def test_a_backup_of_last_week_is_trouble_and_an_older_build_is_told(machine: Machine) -> None:
    backed_up(machine, time.time() - 7.5 * 86400)
    machine.answer("containers", RUNNING.replace("clinicpacs-nginx:local", "0123456789ab"))
    said = status(machine, ends=1)
    assert "7 d ago" in said
    assert "error: problems with: backup\n" in said
    assert "older build" in said


def test_a_backup_without_images_tells_how_old_the_images_are(machine: Machine) -> None:
    backed_up(machine, time.time() - 3600, "includes_dicom 0")
    assert "3.2 GB, without images\n" in status(machine)
    with_images = f"last_success_with_images_timestamp_seconds {time.time() - 5.5 * 86400:.9e}"
    backed_up(machine, time.time() - 3600, f"includes_dicom 0\nclinicpacs_backup_{with_images}")
    assert "without images (with them: 5 d ago)" in status(machine)


def test_a_certificate_with_another_ones_key_is_trouble(machine: Machine) -> None:
    key = machine.root / "certs/privkey.pem"
    old = key.read_bytes()
    assert machine.run("./scripts/generate-certs.sh", "self-signed", "--force").returncode == 0
    key.write_bytes(old)
    said = status(machine, ends=1)
    assert "privkey.pem is not its key" in said
    assert "error: problems with: certificate\n" in said
