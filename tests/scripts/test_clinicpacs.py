"""`./clinicpacs`: commands of the container typed on the server, and those that only the server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.shell import secrets

from .test_makefile import RUN

if TYPE_CHECKING:
    from support.shell import Machine


@pytest.fixture(autouse=True)
def installed(machine: Machine) -> None:
    """An installation is there."""
    (machine.root / ".env").write_text(secrets())


def test_arguments_reach_the_container_letter_for_letter_and_the_exit_code_comes_back(
    machine: Machine,
) -> None:
    words = ["conflicts", "--reject", "3f9a", "--reason", "wrong $(touch pwned) * 'inbox'", ""]
    assert machine.run("./clinicpacs", *words).returncode == 0
    assert machine.calls == [[*RUN, *words]]
    machine.answer("run", "", fails=True)
    assert machine.run("./clinicpacs", "verify").returncode == 1


def test_it_can_be_typed_anywhere_and_by_another_name(machine: Machine) -> None:
    elsewhere = machine.root / "bin"
    (elsewhere / "second").symlink_to("first")
    (elsewhere / "first").symlink_to(machine.root / "clinicpacs")
    done = machine.run("bash", "-c", "cd / && second status --json")
    assert done.returncode == 0, done.stdout
    assert machine.calls == [[*RUN, "status", "--json"]]


def test_another_docker_compose_is_taken(machine: Machine) -> None:
    machine.environment["DOCKER_COMPOSE"] = "docker compose --ansi never"
    assert machine.run("./clinicpacs", "status").returncode == 0
    assert machine.calls == [["compose", "--ansi", "never", *RUN[1:], "status"]]


def test_what_only_the_server_can_do_is_done_there(machine: Machine) -> None:
    done = machine.run("./clinicpacs", "rotate", "archive-password")
    assert (done.returncode, "the platform does not run" in done.stdout) == (1, True)
    assert not any(call[:2] == ["compose", "run"] for call in machine.calls)
    done = machine.run("./clinicpacs", "rotate")
    assert (done.returncode, "database-passwords" in done.stdout) == (2, True)


def test_backups_are_read_in_their_folder(machine: Machine) -> None:
    (machine.root / ".env").write_text(f"{secrets()}BACKUP_PATH=./kept\n")
    assert machine.run("./clinicpacs", "backup", "list", "--json").returncode == 0
    mounted = ["--volume", f"{machine.root / 'kept'}:/backups"]
    assert machine.calls == [[*RUN[:-1], *mounted, "admin", "backup", "list", "--json"]]


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_help_names_both(machine: Machine, words: list[str]) -> None:
    machine.answer("run", "what the container says")
    done = machine.run("./clinicpacs", *words)
    assert done.returncode == 0
    assert "rotate archive-password" in done.stdout
    assert done.stdout.endswith("what the container says\n")
    assert machine.calls == [[*RUN, "--help"]]


def test_without_an_installation_there_is_help_and_nothing_else(machine: Machine) -> None:
    (machine.root / ".env").unlink()
    assert machine.run("./clinicpacs", "--help").returncode == 0
    done = machine.run("./clinicpacs", "status")
    assert (done.returncode, "setup.sh" in done.stdout) == (1, True)
    assert machine.calls == []
