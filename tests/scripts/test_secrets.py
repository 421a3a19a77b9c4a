"""Secrets as containers get them: files, of what .env says."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from support.shell import ROOT

if TYPE_CHECKING:
    from support.shell import Machine

WITH_SECRETS = ROOT / "scripts" / "container" / "with-secrets.sh"


@pytest.fixture(autouse=True)
def set_up(machine: Machine) -> None:
    """A machine after setup."""
    assert machine.run("./scripts/setup.sh", "--yes").returncode == 0


def write(machine: Machine) -> str:
    return machine.bash(". scripts/lib/secrets.sh; write_secrets; env_get SECRETS_REVISION").strip()


def test_setup_leaves_each_in_a_file_that_containers_can_read_and_nobody_else(machine: Machine) -> None:
    folder = machine.root / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {path.name for path in folder.iterdir()}
    assert {
        "POSTGRES_PASSWORD",
        "EXPLORER_CLIENT_SECRET",
        "GRAFANA_SECRET_KEY",
        "TELEGRAM_BOT_TOKEN",
    } <= names
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert path.read_text() == machine.env[path.name]


def test_a_changed_one_is_taken_over_and_starts_its_readers_anew(machine: Machine) -> None:
    before = write(machine)
    assert write(machine) == before
    machine.bash("env_set SMTP_PASSWORD 'a b$c'")
    after = write(machine)
    assert after != before
    assert machine.secret("SMTP_PASSWORD") == "a b$c"


def test_a_run_that_was_broken_off_is_made_up_for(machine: Machine) -> None:
    """The files are new, and .env does not say so yet."""
    before = write(machine)
    machine.bash("env_set SMTP_PASSWORD new")
    after = write(machine)
    machine.bash(f"env_set SECRETS_REVISION {before}")
    assert write(machine) == after


def test_one_that_is_needed_and_not_set_is_told(machine: Machine) -> None:
    machine.bash("env_set POSTGRES_PASSWORD ''")
    done = machine.run("./scripts/up.sh")
    assert done.returncode != 0
    assert ".env does not set POSTGRES_PASSWORD" in done.stdout


def test_a_program_gets_them_as_variables(machine: Machine) -> None:
    mount = machine.root / "mount"
    mount.mkdir()
    for name, value in {"ONE": "a b$c'\"", "TWO": "with an end\n", "EMPTY": ""}.items():
        (mount / name).write_text(value)
    machine.environment["SECRETS_MOUNT"] = str(mount)
    shown = machine.run(
        "sh", str(WITH_SECRETS), "sh", "-c", 'printf "%s|%s|%s" "$ONE" "$TWO" "${EMPTY-unset}"'
    )
    assert shown.stdout == "a b$c'\"|with an end|unset"


def test_a_program_without_any_starts_and_its_end_is_told(machine: Machine) -> None:
    machine.environment["SECRETS_MOUNT"] = str(machine.root / "nowhere")
    assert machine.run("sh", str(WITH_SECRETS), "sh", "-c", "exit 7").returncode == 7
