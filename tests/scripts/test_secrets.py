"""Secrets as containers get them: files, of what .env says."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from support.shell import ROOT, secrets

if TYPE_CHECKING:
    from support.shell import Machine

LIBRARIES = "; ".join(f". scripts/lib/{name}.sh" for name in ("say", "env", "secrets"))
WITH_SECRETS = ROOT / "scripts" / "container" / "with-secrets.sh"


@pytest.fixture(autouse=True)
def set_up(machine: Machine) -> None:
    """A machine with an installation."""
    (machine.root / ".env").write_text(secrets())


def take(machine: Machine) -> dict[str, str]:
    """The marks of each group, after they were taken over."""
    machine.bash(". scripts/lib/secrets.sh; write_secrets; mark_secrets")
    return {name: value for name, value in machine.env.items() if name.startswith("SECRETS_")}


def test_up_leaves_each_in_a_file_that_containers_can_read_and_nobody_else(machine: Machine) -> None:
    take(machine)
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
        assert path.read_text() == machine.env.get(path.name, "")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("SMTP_PASSWORD", "SECRETS_ALERTS"),
        ("ARCHIVE_MONITOR_PASSWORD", "SECRETS_ARCHIVE"),
        ("MONITOR_DB_PASSWORD", "SECRETS_DATABASES"),
        ("EXPLORER_CLIENT_SECRET", "SECRETS_CLIENTS"),
    ],
)
def test_a_changed_one_is_taken_over_and_marks_its_group(machine: Machine, name: str, group: str) -> None:
    before = take(machine)
    assert take(machine) == before
    machine.bash(f"env_set {name} 'a b$c'")
    after = take(machine)
    assert {each for each in after if after[each] != before[each]} == {group}
    assert machine.secret(name) == "a b$c"


def test_a_write_that_was_broken_off_is_made_up_for(machine: Machine) -> None:
    left = machine.root / "secrets" / "SMTP_PASSWORD.new"
    left.parent.mkdir(0o777)
    left.write_text("half")
    left.chmod(0o444)
    owner = (65534, 65534)
    for path in (machine.root, machine.root / ".env", left.parent, left):
        os.chown(path, *owner)
    done = machine.run("bash", "-c", f"set -e; {LIBRARIES}; write_secrets", as_user=owner)
    assert done.returncode == 0, done.stdout
    assert machine.secret("SMTP_PASSWORD") == "old"
    assert not left.exists()


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
