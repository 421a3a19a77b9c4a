"""`make upgrade`: a backup first, then settings, images and a restart; it says how to go back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.shell import Machine

# Stands for the real one, which needs databases; tests/e2e runs that.
BACKUP = """#!/bin/sh
[ "${1:-}" != --latest ] || { echo /srv/backups/clinicpacs-20261121T020000Z; exit; }
printf 'backup\\037\\n' >> calls
[ ! -e no-backup ]
"""


@pytest.fixture(autouse=True)
def running(machine: Machine) -> None:
    """A platform that runs."""
    (machine.root / ".env").write_text("HTTP_PORT=1\nHTTPS_PORT=2\nPUBLIC_URL=https://localhost:2\n")
    machine.answer("ours", "0123456789ab")
    (machine.root / "scripts/backup.sh").write_text(BACKUP)
    (machine.root / "scripts/backup.sh").chmod(0o755)


def calls(machine: Machine) -> list[str]:
    """What changes something, in order."""
    words = [" ".join(call[:2]) for call in machine.calls]
    return [each for each in words if each in {"backup", "compose pull", "compose build", "compose up"}]


def test_it_goes_in_this_order(machine: Machine) -> None:
    done = machine.run("make", "upgrade", "YES=1")
    assert done.returncode == 0, done.stdout
    seen = calls(machine)
    # The backup is this version's own, and it reads this version's settings.
    assert seen[:2] == ["compose build", "backup"]
    assert seen[-1] == "compose up"
    database, platform = (call for call in machine.calls if call[:2] == ["compose", "up"])
    assert database[-1] == "postgres"
    assert {"--remove-orphans", "--force-recreate"} <= set(platform)
    assert "make restore STOP=1 BACKUP_FILE=/srv/backups/clinicpacs-20261121T020000Z" in done.stdout


def test_nobody_who_answers_is_a_no(machine: Machine) -> None:
    done = machine.run("make", "upgrade")
    assert done.returncode == 2
    assert "nothing was changed" in done.stdout
    assert calls(machine) == []


def test_without_a_backup_nothing_that_runs_is_changed(machine: Machine) -> None:
    (machine.root / "no-backup").touch()
    assert machine.run("make", "upgrade", "YES=1").returncode == 2
    assert calls(machine) == ["compose build", "backup"]


def test_one_that_does_not_come_up_says_how_to_go_back(machine: Machine) -> None:
    machine.answer("up", "unhealthy", fails=True)
    done = machine.run("make", "upgrade", "YES=1")
    assert done.returncode == 2
    assert "make restore STOP=1 BACKUP_FILE=/srv/backups/clinicpacs-20261121T020000Z" in done.stdout


def test_a_platform_that_is_down_is_not_upgraded(machine: Machine) -> None:
    machine.answer("ours", "")
    done = machine.run("make", "upgrade", "YES=1")
    assert done.returncode == 2
    assert "start it with make up" in done.stdout
    assert calls(machine) == []
