"""The command as a whole: its help, its examples, its exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from admin.cli import COMMANDS, cli

if TYPE_CHECKING:
    from pathlib import Path

    from support.site import Site

HEAVY = ("sqlalchemy", "pydantic", "requests", "pydicom", "keycloak", "rich.table", "structlog")


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def clinicpacs(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "admin", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from admin.cli import cli; "
        "print(CliRunner().invoke(cli, ['--help']).output); "
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "HEAVY []" in told
    assert all(name in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_examples_that_parse(name: str) -> None:
    found = command(name)
    examples: tuple[str, ...] = getattr(found, "examples", ())
    assert examples
    shown = found.get_help(click.Context(found, info_name=name, parent=click.Context(cli)))
    for example in examples:
        assert example in shown
        words = shlex.split(example, comments=True)
        start = words.index("clinicpacs")
        arguments = words[start + 2 :]
        for stop in ("|", ">"):
            arguments = arguments[: arguments.index(stop)] if stop in arguments else arguments
        assert words[start + 1] == name
        found.make_context(name, arguments)


def test_the_groups_own_examples_parse() -> None:
    for example in cli.examples:
        _, name, *arguments = shlex.split(example)
        command(name).make_context(name, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_described(name: str) -> None:
    found = command(name)
    assert found.name == name
    assert found.help
    assert all(parameter.help for parameter in found.params if isinstance(parameter, click.Option))


@pytest.mark.long
def test_it_works_as_a_process_of_its_own(tmp_path: Path) -> None:
    done = clinicpacs(tmp_path, "add-clinic", "northside", "Northside Clinic")
    assert done.returncode == 0, done.stderr
    assert "no identity provider is configured" in done.stdout
    assert (tmp_path / "data" / "inbox" / "northside").is_dir()
    assert (tmp_path / "data" / "catalog.db").stat().st_mode & 0o077 == 0
    assert clinicpacs(tmp_path, "nonsense").returncode == 2
    unknown = clinicpacs(tmp_path, "dismiss", "southside")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    remedy = "`clinicpacs add-clinic southside NAME` adds it"
    assert unknown.stderr == f"clinicpacs: there is no clinic 'southside': {remedy}\n"


def test_it_finds_the_running_demo_through_its_installation_file(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sqlite_site.data
    data.mkdir()
    (data / "clinicpacs.env").write_text(f"IDENTITY_PATH='{data / 'identity.db'}'\n")
    sqlite_site.env = {"DATA_PATH": str(data)}
    sqlite_site.done("add-clinic", "northside", "Northside")
    arguments = ("add-user", "nora", "--email", "nora@northside.example", "--clinic", "northside")
    assert "temporary password" in sqlite_site.done(*arguments)
    assert (data / "catalog.db").exists()


@pytest.mark.long
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    line = f"{shlex.quote(sys.executable)} -m admin status --json | true"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_all_faults_of_the_settings_are_told_at_once(sqlite_site: Site) -> None:
    result = sqlite_site.run("status", ARCHIVE_URL="ftp://x", LOG_LEVEL="loud")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "clinicpacs: LOG_LEVEL: String should match pattern '^(debug|info|warning|error)$'",
        "clinicpacs: ARCHIVE_URL: must start with http:// or https://",
    ]


def test_two_identity_providers_are_refused(sqlite_site: Site) -> None:
    result = sqlite_site.run("status", KEYCLOAK_URL="https://localhost/auth", KEYCLOAK_CLIENT_SECRET="s")
    assert result.exit_code == 2
    assert "choose one identity provider" in result.stderr
    result = sqlite_site.run("status", KEYCLOAK_URL="https://localhost/auth", IDENTITY_PATH="")
    assert result.exit_code == 2
    assert "KEYCLOAK_CLIENT_SECRET is needed" in result.stderr


def test_a_keycloak_that_does_not_answer_is_one_sentence(sqlite_site: Site) -> None:
    env = {"KEYCLOAK_URL": "http://127.0.0.1:9/auth", "KEYCLOAK_CLIENT_SECRET": "s", "IDENTITY_PATH": ""}
    result = sqlite_site.run("add-user", "nora", "--email", "nora@northside.example", **env)
    assert result.exit_code == 2
    assert "127.0.0.1:9" in result.stderr
    assert result.stderr.count("\n") == 1
    assert '"name": "identity",\n      "is_up": false' in sqlite_site.run("status", "--json", **env).stdout


@pytest.mark.parametrize("url", ["mysql://x", "nonsense", "sqlite:////proc/nowhere/catalog.db"])
def test_a_catalog_that_cannot_be_is_one_sentence(sqlite_site: Site, url: str) -> None:
    for name in ("status", "migrate"):
        result = sqlite_site.run(name, DATABASE_URL=url)
        assert result.exit_code == 2
        assert result.stderr.startswith("clinicpacs: ")
        assert result.stderr.count("\n") == 1


def test_a_file_that_is_no_catalog_is_one_sentence(sqlite_site: Site) -> None:
    path = sqlite_site.data / "catalog.db"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    result = sqlite_site.run("status", DATABASE_URL=f"sqlite:///{path}")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_migrate_makes_an_sqlite_catalog(sqlite_site: Site) -> None:
    path = sqlite_site.data / "new" / "catalog.db"
    assert "of this version" in sqlite_site.done("migrate", DATABASE_URL=f"sqlite:///{path}")
    assert path.exists()


def test_check_tells_the_faults_of_every_service(sqlite_site: Site) -> None:
    assert sqlite_site.done("check", "admin", "importer") == (
        "admin: settings are fine\nimporter: settings are fine\n"
    )
    result = sqlite_site.run("check", ARCHIVE_URL="ftp://x", COOLDOWN_SECONDS="-1")
    assert result.exit_code == 2
    assert "admin: ARCHIVE_URL: must start with" in result.stderr
    assert "importer: ARCHIVE_URL: must start with" in result.stderr
    assert "importer: COOLDOWN_SECONDS: " in result.stderr
    result = sqlite_site.run("check", "importer", "admin", "--json", COOLDOWN_SECONDS="-1")
    assert result.exit_code == 2
    importer, admin = map(json.loads, result.stdout.splitlines())
    assert importer["faults"][0].startswith("COOLDOWN_SECONDS: ")
    assert admin == {"service": "admin", "faults": []}


def test_sections_of_the_help_come_in_the_order_of_need() -> None:
    sections = [lazy.section for lazy in COMMANDS.values()]
    assert list(dict.fromkeys(sections)) == ["Clinics and users", "Imports", "Studies", "Upkeep"]
    assert sections == sorted(sections, key=list(dict.fromkeys(sections)).index), "each is in one piece"


def test_the_audit_is_listed_newest_first(site: Site) -> None:
    site.done("add-clinic", "northside", "Northside")
    site.done("deactivate-clinic", "northside")
    told = site.done("audit")
    assert told.index("deactivate-clinic") < told.index("add-clinic", told.index("deactivate-clinic") + 20)
    assert len(site.done("audit", "--limit", "1", "--json").splitlines()) == 1
    assert '"action":"deactivate-clinic"' in site.done("audit", "--limit", "1", "--json")
