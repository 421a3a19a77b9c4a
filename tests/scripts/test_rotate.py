"""`make rotate`: new passwords for exactly those that are named, and a way back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.shell import secrets

if TYPE_CHECKING:
    from support.shell import Machine

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
GROUPS = {
    "archive-password": r"ARCHIVE_[A-Z]+_PASSWORD",
    "database-passwords": r"[A-Z_]+_DB_PASSWORD",
    "client-secrets": r"[A-Z_]+_CLIENT_SECRET",
}


def of(group: str) -> set[str]:
    return set(re.findall(rf"^({GROUPS[group]})=", EXAMPLE, re.MULTILINE))


@pytest.fixture(autouse=True)
def running(machine: Machine) -> None:
    """A platform that runs."""
    (machine.root / ".env").write_text(f"{secrets()}HTTPS_PORT=2\n")
    machine.answer("ours", "0123456789ab")
    for folder in ("nginx", "ohif", "orthanc", "monitoring", "backups"):
        (machine.root / folder).mkdir(exist_ok=True)


@pytest.mark.parametrize("group", GROUPS)
def test_each_named_one_is_new_and_no_other(machine: Machine, group: str) -> None:
    done = machine.run("make", "rotate", f"SECRET={group}", "YES=1")
    assert done.returncode == 0, done.stdout
    changed = {name for name, value in machine.env.items() if re.fullmatch("[A-Za-z0-9]{40}", value)}
    assert changed == of(group)
    assert len({machine.env[name] for name in changed}) == len(changed) > 1
    assert not any(machine.env[name] in done.stdout for name in changed)
    assert {name: machine.secret(name) for name in changed} == {name: machine.env[name] for name in changed}
    assert ["compose", "up"] in [call[:2] for call in machine.calls]
    assert not list(machine.root.glob(".env.before-*"))


def test_a_service_that_does_not_take_it_leaves_the_way_back(machine: Machine) -> None:
    before = (machine.root / ".env").read_text()
    machine.answer("up", "unhealthy", fails=True)
    done = machine.run("make", "rotate", "SECRET=archive-password", "YES=1")
    assert done.returncode == 2
    (kept,) = machine.root.glob(".env.before-rotation-*")
    assert kept.read_text() == before
    assert kept.name in done.stdout


@pytest.mark.parametrize("secret", ["", "everything", "POSTGRES_PASSWORD"])
def test_what_cannot_be_rotated_is_told(machine: Machine, secret: str) -> None:
    before = (machine.root / ".env").read_text()
    done = machine.run("make", "rotate", f"SECRET={secret}", "YES=1")
    assert done.returncode == 2
    assert "database-passwords" in done.stdout
    assert (machine.root / ".env").read_text() == before


def test_nobody_who_answers_is_a_no(machine: Machine) -> None:
    before = (machine.root / ".env").read_text()
    done = machine.run("make", "rotate", "SECRET=archive-password")
    assert done.returncode == 2
    assert (machine.root / ".env").read_text() == before
    assert not list(machine.root.glob(".env.before-*"))


def test_a_platform_that_is_down_keeps_its_passwords(machine: Machine) -> None:
    before = (machine.root / ".env").read_text()
    machine.answer("ours", "")
    assert machine.run("make", "rotate", "SECRET=archive-password", "YES=1").returncode == 2
    assert (machine.root / ".env").read_text() == before
