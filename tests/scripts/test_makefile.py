"""The production targets: what they run, and that arguments reach it letter for letter."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from support.shell import ROOT, secrets

if TYPE_CHECKING:
    import subprocess

    from support.shell import Machine

OPERATOR = os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
RUN = [
    *("compose", "run", "--rm", "--no-deps", "--no-TTY"),
    *("--env", f"CLINICPACS_OPERATOR={OPERATOR}", "admin"),
]


@pytest.fixture(autouse=True)
def installed(machine: Machine) -> None:
    """An installation is there; a desktop has names of its own in the environment."""
    (machine.root / ".env").write_text(f"{secrets()}COMPOSE_PROJECT_NAME=clinicpacs\n")
    machine.environment.update(USERNAME="desktop", NAME="desktop", EMAIL="desktop@example.org")


def make(machine: Machine, target: str, **arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.run("make", target, *(f"{name}={value}" for name, value in arguments.items()))


def called(machine: Machine, target: str, **arguments: str) -> list[list[str]]:
    done = make(machine, target, **arguments)
    assert done.returncode == 0, done.stdout
    return machine.calls


@pytest.mark.parametrize(
    "name",
    [
        'Denscan "A" $(x)',
        "O'Brien $x ${y} `id`",
        "$(shell touch pwned)",
        "a # b \\ c",
        "--help",
        "Ünïted 漢",
        "a;id",
    ],
)
def test_a_name_of_any_letters_reaches_the_command(machine: Machine, name: str) -> None:
    calls = called(machine, "add-clinic", CLINIC_ID="northside", CLINIC_NAME=name)
    assert calls == [[*RUN, "add-clinic", "--", "northside", name]]
    assert not (machine.root / "pwned").exists()


def test_a_user_with_everything(machine: Machine) -> None:
    calls = called(
        machine,
        "add-user",
        USERNAME="-nora",
        EMAIL="nora@x.example $(id)",
        CLINIC="north south",
        ROLE="radiologist",
        NAME="Nora  'V' $x",
    )
    assert calls == [
        [
            *(*RUN, "add-user", "--email=nora@x.example $(id)", "--clinic=north", "--clinic=south"),
            *("--role=radiologist", "--full-name=Nora  'V' $x", "--", "-nora"),
        ]
    ]


@pytest.mark.parametrize(
    ("target", "arguments", "missing"),
    [
        ("add-clinic", {"CLINIC_ID": "a"}, "CLINIC_NAME"),
        ("add-user", {"CLINIC": "a"}, "USERNAME EMAIL"),
        ("move-user", {"USERNAME": "nora"}, "CLINIC"),
        ("remove-user", {}, "USERNAME"),
        ("deactivate-clinic", {}, "CLINIC_ID"),
    ],
)
def test_what_is_missing_is_told_and_never_taken_from_the_environment(
    machine: Machine, target: str, arguments: dict[str, str], missing: str
) -> None:
    done = make(machine, target, **arguments)
    assert done.returncode == 2
    assert f"missing: {missing}\nusage: make {target} " in done.stdout
    assert machine.calls == []


def test_a_user_is_moved_to_one_clinic_or_several(machine: Machine) -> None:
    moved = called(machine, "move-user", USERNAME="nora", CLINIC="north south")
    assert moved == [[*RUN, "move-user", "--clinic=north", "--clinic=south", "--", "nora"]]


def test_removing_asks_unless_told(machine: Machine) -> None:
    assert called(machine, "remove-user", USERNAME="nora") == [[*RUN, "remove-user", "--", "nora"]]
    machine.forget_calls()
    assert called(machine, "remove-user", USERNAME="nora", YES="1") == [
        [*RUN, "remove-user", "--yes", "--", "nora"]
    ]


@pytest.mark.parametrize(
    ("target", "arguments", "call"),
    [
        ("down", {}, ["compose", "down", "--remove-orphans"]),
        ("restart", {}, ["compose", "restart"]),
        ("restart", {"SERVICE": "gateway"}, ["compose", "restart", "gateway"]),
        ("logs", {"SERVICE": "nginx"}, ["compose", "logs", "--follow", "--tail", "200", "nginx"]),
        ("logs-importer", {}, ["compose", "logs", "--follow", "--tail", "200", "importer"]),
        ("shell-orthanc", {}, ["compose", "exec", "orthanc", "bash"]),
        (
            "shell-db",
            {"DB": "orthanc"},
            ["compose", "exec", "postgres", "psql", "--username=postgres", "--dbname=orthanc"],
        ),
    ],
)
def test_short_targets(machine: Machine, target: str, arguments: dict[str, str], call: list[str]) -> None:
    assert called(machine, target, **arguments) == [call]


def test_a_service_is_a_name(machine: Machine) -> None:
    assert make(machine, "restart", SERVICE="--volumes").returncode == 2
    assert machine.calls == []


def test_down_never_removes_volumes() -> None:
    for path in [ROOT / "Makefile", *(ROOT / "scripts").glob("*.sh")]:
        for line in path.read_text().splitlines():
            if re.search(r"\bdown\b", line) and "compose" in line:
                assert not re.search(r"--volumes|\s-v\b", line), f"{path.name}: {line}"


def test_up_waits_and_tells_the_addresses(machine: Machine) -> None:
    (machine.root / ".env").write_text(f"{secrets()}PUBLIC_URL=https://pacs.example.org\n")
    done = make(machine, "up")
    assert done.returncode == 0, done.stdout
    started, compared = machine.calls[-2:]
    assert started[:4] == ["compose", "up", "--detach", "--wait"]
    assert compared[-2:] == ["admin", "apply-realm"]
    for path in ("/", "/auth/admin", "/grafana", "/orthanc"):
        assert f"https://pacs.example.org{path}\n" in done.stdout


def test_up_that_fails_says_where_to_look(machine: Machine) -> None:
    machine.answer("up", "container clinicpacs-keycloak-1 is unhealthy", fails=True)
    done = make(machine, "up")
    assert done.returncode == 2
    assert "make status" in done.stdout


@pytest.mark.parametrize("target", ["up", "up-dev", "status", "add-clinic", "backup", "down", "upgrade"])
def test_without_env_all_say_what_to_run_first(machine: Machine, target: str) -> None:
    (machine.root / ".env").unlink()
    done = make(machine, target, CLINIC_ID="a", CLINIC_NAME="b")
    assert done.returncode == 2
    assert "run ./scripts/setup.sh first" in done.stdout
    assert machine.calls == []


def test_another_compose_command(machine: Machine) -> None:
    machine.program("docker-compose", '#!/bin/sh\necho "standalone: $*"\n')
    done = make(machine, "restart", DOCKER_COMPOSE="docker-compose --ansi never")
    assert "standalone: --ansi never restart" in done.stdout


def test_help_lists_every_target_that_is_for_people(machine: Machine) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    phony = set(
        " ".join(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)).split()
    )
    assert targets == phony
    listed = set(re.findall(r"^  ([a-z][a-z0-9-]*) ", make(machine, "help").stdout, re.MULTILINE))
    assert listed == targets


@pytest.mark.parametrize("name", ["nginx/added.conf", "postgres/postgresql.conf"])
def test_up_notices_a_changed_configuration_file(machine: Machine, name: str) -> None:
    """Containers do not: without a new fingerprint they go on with the old file."""
    env = machine.root / ".env"
    env.write_text(f"{secrets()}PUBLIC_URL=https://pacs.example.org\n")
    make(machine, "up")
    first = env.read_text()
    make(machine, "up")
    assert env.read_text() == first
    changed = machine.root / name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("# new")
    make(machine, "up")
    assert env.read_text() != first


def test_every_service_that_has_such_a_file_mounted_is_started_anew() -> None:
    fingerprint = re.search("find ([a-z/ ]+) -type f", (ROOT / "scripts/up.sh").read_text())
    assert fingerprint
    folders = tuple(f"./{folder}/" for folder in fingerprint[1].split() if folder != "scripts/container")
    assert "./postgres/" in folders
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        if any(f"{volume}/".replace(":", "/").startswith(folders) for volume in service.get("volumes", [])):
            assert "clinicpacs.configuration" in service["labels"], name
