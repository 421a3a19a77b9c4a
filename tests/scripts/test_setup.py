"""scripts/setup.sh: checks first, writes what is missing, and never changes what is in use."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.shell import ROOT, Machine, assignments

if TYPE_CHECKING:
    from collections.abc import Iterator

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@pytest.fixture(autouse=True)
def ports(machine: Machine) -> tuple[int, int]:
    """Free ports in the settings that come with us: the machine of the tests may serve 80 and 443."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http, https = one.getsockname()[1], two.getsockname()[1]
    example = machine.root / ".env.example"
    text = example.read_text().replace("HTTP_PORT=80\n", f"HTTP_PORT={http}\n")
    example.write_text(text.replace("HTTPS_PORT=443\n", f"HTTPS_PORT={https}\n"))
    return http, https


def setup(machine: Machine, *arguments: str) -> str:
    done = machine.run("./scripts/setup.sh", *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def refused(machine: Machine, *arguments: str) -> str:
    """What it says when it refuses; nothing may have been written."""
    before = sorted(machine.root.iterdir())
    done = machine.run("./scripts/setup.sh", *arguments)
    assert done.returncode in {1, 2}, done.stdout
    assert [path for path in sorted(machine.root.iterdir()) if path not in before] in (
        [],
        [machine.root / "calls"],
    )
    return done.stdout


def test_a_fresh_machine_is_ready_after_one_run(machine: Machine, ports: tuple[int, int]) -> None:
    said = setup(machine, "--domain", "PACS.Example.org")
    env = machine.env
    assert stat.S_IMODE((machine.root / ".env").stat().st_mode) == 0o600
    assert list(env) == list(assignments(ROOT / ".env.example"))
    assert env["DOMAIN"] == "pacs.example.org"
    assert env["PUBLIC_URL"] == f"https://pacs.example.org:{ports[1]}"
    secrets = [value for name, value in env.items() if re.search("PASSWORD|SECRET(_|$)", name) and value]
    assert len(secrets) == len(set(secrets)) == 18
    assert all(re.fullmatch("[A-Za-z0-9]{40}", secret) for secret in secrets)
    assert not any(secret in said for secret in secrets)
    for name in ("data/inbox", "data/processed", "data/failed", "dicom", "backups/metrics", "certs"):
        owner = (machine.root / name).stat()
        assert (owner.st_uid, owner.st_gid) == (int(env["PACS_UID"]), int(env["PACS_GID"])), name
    assert stat.S_IMODE((machine.root / "data/inbox").stat().st_mode) == 0o2770
    assert ["compose", "build"] in machine.calls
    assert "make add-clinic" in said


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    setup(machine, "--domain", "pacs.example.org")
    before = machine.everything()
    setup(machine)
    assert machine.everything() == before


def test_an_upgrade_adds_what_is_new_and_keeps_what_is_there(machine: Machine) -> None:
    setup(machine)
    env = machine.root / ".env"
    without = [line for line in env.read_text().splitlines() if not line.startswith("GRAFANA_CLIENT_SECRET")]
    own = "SMTP_PASSWORD='it is $HOME \"mine\" #1'"
    env.write_text("\n".join([line for line in without if not line.startswith("SMTP_PASSWORD")] + [own]))
    before = machine.env
    said = setup(machine)
    assert "new in this version, added: GRAFANA_CLIENT_SECRET" in said
    assert {name: value for name, value in machine.env.items() if name in before} == before
    assert re.fullmatch("[A-Za-z0-9]{40}", machine.env["GRAFANA_CLIENT_SECRET"])
    assert own in env.read_text().splitlines()


def test_defaults_of_older_versions_are_renewed_and_values_of_ones_own_kept(machine: Machine) -> None:
    (machine.root / ".env").write_text("ACCESS_TOKEN_SECONDS=300\nFRAME_CACHE_SIZE=10g\n")
    assert "ACCESS_TOKEN_SECONDS=30, it was 300" in setup(machine)
    assert (machine.env["ACCESS_TOKEN_SECONDS"], machine.env["FRAME_CACHE_SIZE"]) == ("30", "1g")
    setup(machine, "--set", "ACCESS_TOKEN_SECONDS=120")
    assert machine.env["ACCESS_TOKEN_SECONDS"] == "120"


def test_settings_of_ones_own_before_the_first_run_are_kept(machine: Machine) -> None:
    (machine.root / ".env").write_text("POSTGRES_PASSWORD=chosen\nDATA_PATH=./elsewhere\n")
    setup(machine)
    assert machine.env["POSTGRES_PASSWORD"] == "chosen"
    assert (machine.root / "elsewhere" / "inbox").is_dir()
    assert not (machine.root / "data").exists()


def test_an_env_file_that_others_can_read_is_closed(machine: Machine) -> None:
    setup(machine)
    (machine.root / ".env").chmod(0o644)
    setup(machine)
    assert stat.S_IMODE((machine.root / ".env").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("to", "text", "fails", "sentence"),
    [
        ("version", "19.03.15", False, "Docker engine 19.03.15 is too old: 20.10 or newer"),
        ("version", "Cannot connect to the Docker daemon", True, "sudo systemctl enable --now docker"),
        ("version", "permission denied while trying to connect", True, "usermod -aG docker"),
        ("compose", "2.9.0", False, "Docker Compose 2.9.0 is too old: 2.20 or newer"),
        ("compose", "", True, "Docker Compose is not installed"),
        ("info", f"2 {3 * 2**30} linux x86_64 /", False, "3072 MB of memory are too little"),
        ("info", f"2 {16 * 2**30} linux riscv64 /", False, "linux on riscv64"),
        ("info", f"2 {16 * 2**30} windows x86_64 /", False, "windows on x86_64"),
        (
            "volumes",
            "clinicpacs_postgres",
            False,
            "volumes of an installation are there: clinicpacs_postgres",
        ),
    ],
)
def test_a_machine_that_will_not_do_is_left_as_it_is(
    machine: Machine, to: str, text: str, *, fails: bool, sentence: str
) -> None:
    machine.answer(to, text, fails=fails)
    assert sentence in refused(machine, "--yes")


def test_little_memory_is_warned_of(machine: Machine) -> None:
    machine.answer("info", f"2 {6 * 2**30} linux aarch64 /")
    assert "8 GB or more are needed" in setup(machine, "--no-pull")


@pytest.mark.parametrize(("free", "ends", "said"), [(5, 1, "5 GB free"), (30, 0, "only 30 GB free")])
def test_little_disk(machine: Machine, free: int, ends: int, said: str) -> None:
    machine.program(
        "df", f"#!/bin/sh\necho 'Filesystem blocks Used Available'\necho '/dev/sda 0 0 {free}100000'\n"
    )
    done = machine.run("./scripts/setup.sh", "--no-pull")
    assert (done.returncode, said in done.stdout) == (ends, True), done.stdout


def test_a_port_that_another_program_has_is_refused_and_our_own_is_not(
    machine: Machine, ports: tuple[int, int]
) -> None:
    with socket.create_server(("127.0.0.1", ports[1])):
        assert f"port {ports[1]} (HTTPS_PORT) is in use" in refused(machine)
        machine.answer("ours", "0123456789ab")
        setup(machine, "--no-pull")


@pytest.mark.parametrize(
    "wrong",
    [
        {"DOMAIN": "https://pacs.example.org/", "HTTP_PORT": "70000", "DATA_PATH": "data", "PACS_UID": "0"},
        {
            "DOMAIN": "pacs example",
            "HTTPS_PORT": "0x50",
            "DICOM_STORAGE_PATH": "/srv/a:b",
            "PACS_GID": "wheel",
        },
        {"DOMAIN": "-rf", "PUBLIC_URL": "http://pacs.example.org", "BACKUP_PATH": "", "PACS_UID": "$(id)"},
        {"DOMAIN": "$(touch pwned)", "PUBLIC_URL": "https://pacs.example.org/", "HTTP_PORT": ""},
        {"DOMAIN": "a" * 64 + ".org", "SMTP_PASSWORD": "one\ntwo", "APPLICATION_SUBNET": "here"},
    ],
)
def test_wrong_settings_are_refused_all_at_once_before_anything_is_written(
    machine: Machine, wrong: dict[str, str]
) -> None:
    said = refused(machine, *(f"--set={name}={value}" for name, value in wrong.items()))
    assert {name for name in wrong if f" {name}: " in said} == set(wrong), said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "NOT_A_NAME=1"], "NOT_A_NAME is no setting"),
        (["--set", "A.*=1"], "--set wants NAME=VALUE"),
        (["--domain"], "--domain wants a name"),
        (["--force"], "unknown argument '--force'"),
        (["--set", "HTTP_PORT=8", "--set", "HTTPS_PORT=8"], "are the same"),
    ],
)
def test_wrong_arguments_are_refused(machine: Machine, arguments: list[str], sentence: str) -> None:
    assert sentence in refused(machine, *arguments)


def test_another_domain_later_says_what_else_it_means(machine: Machine) -> None:
    setup(machine, "--domain", "pacs.example.org")
    secrets = {name: value for name, value in machine.env.items() if "SECRET" in name}
    said = setup(machine, "--domain", "pacs.example.com")
    assert machine.env["PUBLIC_URL"].startswith("https://pacs.example.com")
    assert "that also means" in said
    assert "make up, so that the services, Keycloak among them, learn of it" in said
    assert "ohif-viewer" not in said, "make up does that"
    assert "CN=pacs.example.com" in said
    assert {name: value for name, value in machine.env.items() if "SECRET" in name} == secrets


def test_an_origin_of_ones_own_survives_a_change_of_the_port(machine: Machine) -> None:
    setup(machine, "--set", "PUBLIC_URL=https://proxy.example.org")
    setup(machine, "--set", "HTTP_PORT=8099")
    assert machine.env["PUBLIC_URL"] == "https://proxy.example.org"


def test_folders_set_apart_take_their_compose_file_and_leave_it(machine: Machine, tmp_path: Path) -> None:
    setup(machine, "--set", "COMPOSE_FILE=docker-compose.yml:own.yml")
    said = setup(machine, "--set", f"INBOX_PATH={tmp_path}/share/inbox")
    assert "a copy, not a rename" in said
    assert machine.env["COMPOSE_FILE"] == "docker-compose.yml:own.yml:docker-compose.apart.yml"
    assert (tmp_path / "share/inbox").is_dir()
    setup(machine)
    assert machine.env["COMPOSE_FILE"].count("apart") == 1
    setup(machine, "--set", "INBOX_PATH=")
    assert machine.env["COMPOSE_FILE"] == "docker-compose.yml:own.yml"


def test_a_pull_that_fails_leaves_all_else_done(machine: Machine) -> None:
    machine.answer("pull", "no route to host", fails=True)
    done = machine.run("./scripts/setup.sh")
    assert done.returncode == 1
    assert "not all images could be fetched" in done.stdout
    assert (machine.root / "certs/privkey.pem").is_file()
    assert ["compose", "build"] in machine.calls
    machine.answer("pull", "")
    setup(machine)


def test_without_pull_no_image_is_touched(machine: Machine) -> None:
    setup(machine, "--no-pull")
    assert not [call for call in machine.calls if call[:2] in (["compose", "pull"], ["compose", "build"])]


def test_a_variable_that_hides_a_setting_is_warned_of(machine: Machine) -> None:
    setup(machine)
    machine.environment["DATA_PATH"] = "/elsewhere"
    assert "DATA_PATH is set in your environment, too" in setup(machine)


def test_a_misspelt_setting_is_warned_of(machine: Machine) -> None:
    (machine.root / ".env").write_text("COOLDOWN_SECOND=5\n")
    assert "COOLDOWN_SECOND in .env is no setting" in setup(machine)


def test_help_changes_nothing(machine: Machine) -> None:
    done = machine.run("./scripts/setup.sh", "--help")
    assert done.returncode == 0
    assert "--domain NAME" in done.stdout
    assert machine.calls == []


@pytest.fixture
def of_a_user(machine: Machine) -> Iterator[Machine]:
    """The machine in a folder of user 4711's; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        moved = Machine(Path(shutil.move(machine.root, folder)))
        for path in (moved.root, *moved.root.rglob("*")):
            os.chown(path, 4711, 4712)
        yield moved


@as_root
def test_a_user_owns_what_the_services_write_and_is_told_what_needs_root(of_a_user: Machine) -> None:
    (of_a_user.root / "dicom").mkdir()
    done = of_a_user.run("./scripts/setup.sh", "--no-pull", as_user=(4711, 4712))
    assert done.returncode == 1
    assert "sudo chown 4711:4712 './dicom'" in done.stdout
    os.chown(of_a_user.root / "dicom", 4711, 4712)
    done = of_a_user.run("./scripts/setup.sh", "--no-pull", as_user=(4711, 4712))
    assert done.returncode == 0, done.stdout
    assert (of_a_user.env["PACS_UID"], of_a_user.env["PACS_GID"]) == ("4711", "4712")
    assert (of_a_user.root / "certs/privkey.pem").stat().st_uid == 4711
