"""backup.sh and restore.sh: what they refuse, and what they leave behind when they fail or are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.importing import wait_until
from support.shell import secrets

ROOT = Path(__file__).parents[2]
NAME = "clinicpacs-20260102T030405Z"


@dataclass
class Installation:
    """A copy of the scripts with a `.env`, on a machine whose `docker` is a stand-in."""

    root: Path

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "FAKE": str(self.root / "fake"), "BACKUPS": str(self.backups)}

    def start(self, script: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "scripts" / script, *arguments],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str, **env: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(script, *arguments, **env)
        said, _ = process.communicate(timeout=30)
        return process.returncode, said

    def hanging(self, script: str, *arguments: str, on: str) -> subprocess.Popen[str]:
        """A script that runs and hangs in a certain call of docker."""
        process = self.start(script, *arguments, HANG_ON=on)
        wait_until((self.root / "fake" / "hanging").exists)
        return process

    @property
    def calls(self) -> list[str]:
        return (self.root / "fake" / "calls").read_text().splitlines()

    def first_call(self, part: str) -> int:
        return next(number for number, call in enumerate(self.calls) if part in call)

    @property
    def imports(self) -> bool:
        return "importer" in (self.root / "fake" / "running").read_text().split()

    @property
    def left(self) -> list[str]:
        """What is in the folder of the backups."""
        return sorted(path.name for path in self.backups.iterdir() if path.name != ".lock")

    def add_backup(self) -> Path:
        place = self.backups / NAME
        place.mkdir()
        (place / "manifest.json").write_text("{}")
        subprocess.run(
            ["tar", "--create", "--file", place / "configuration.tar", ".env"], cwd=self.root, check=True
        )
        return place


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for folder in ("bin", "fake", "backups", "data", "dicom", "certs", "secrets"):
        (tmp_path / folder).mkdir()
    shutil.copy(Path(__file__).with_name("fake_docker.sh"), tmp_path / "bin" / "docker")
    for name in (".env.example", "docker-compose.yml"):
        shutil.copy(ROOT / name, tmp_path)
    own = f"PACS_UID={os.getuid()}\nPACS_GID={os.getgid()}\nBACKUP_KEEP=3\n"
    (tmp_path / ".env").write_text(f"{own}{secrets()}")
    (tmp_path / "fake" / "running").write_text("postgres\nkeycloak\northanc\nimporter\n")
    (tmp_path / "fake" / "calls").touch()
    return Installation(tmp_path)


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh"])
def test_wrong_use_is_told(installation: Installation, script: str) -> None:
    assert installation.run(script, "--wrong")[0] == 2
    code, said = installation.run(script, "--help")
    assert (code, said.startswith(f"usage: ./scripts/{script}")) == (0, True)
    (installation.root / ".env").unlink()
    arguments = [NAME] if script == "restore.sh" else []
    code, said = installation.run(script, *arguments)
    assert code == 1
    assert "setup.sh" in said


def test_importing_rests_only_while_index_and_newest_files_are_copied(installation: Installation) -> None:
    code, said = installation.run("backup.sh", "--include-dicom")
    assert code == 0, said
    order = [
        "kc.sh export",
        "pg_dump --username postgres --format custom keycloak",
        "admin backup copy",
        "compose stop importer",
        "admin backup clock",
        "pg_dump --username postgres --format custom catalog",
        "pg_dump --username postgres --format custom orthanc",
        "admin backup agree",
        "compose start importer",
        "admin backup rows",
        "admin backup seal",
    ]
    places = [installation.first_call(part) for part in order]
    assert places == sorted(places)
    (name,) = installation.left
    place = installation.backups / name
    assert {path.name for path in place.iterdir()} == {
        *("catalog.dump", "keycloak.dump", "orthanc.dump", "keycloak-realm.json"),
        *("configuration.tar", "manifest.json"),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in place.iterdir() if path.name != "manifest.json")
    assert installation.imports
    assert "--keep 3" in installation.calls[installation.first_call("seal")]
    assert "NO IMAGES" not in said


def test_it_is_said_that_no_images_are_inside(installation: Installation) -> None:
    code, said = installation.run("backup.sh")
    assert code == 0
    assert "IT HOLDS NO IMAGES" in said
    assert not any("backup copy" in call or "agree" in call for call in installation.calls)


@pytest.mark.parametrize(
    "fails",
    [
        "kc.sh",
        "stop importer",
        "pg_dump.*orthanc",
        "pg_restore .*attachedfiles",
        "backup agree",
        "backup seal",
    ],
)
def test_whatever_fails_leaves_no_backup_and_importing_goes_on(
    installation: Installation, fails: str
) -> None:
    code, said = installation.run("backup.sh", "--include-dicom", FAIL_ON=fails)
    assert code == 1
    assert "no backup was made" in said
    assert installation.left == []
    assert installation.imports


def test_files_that_go_while_the_index_is_dumped_make_it_dump_once_more(installation: Installation) -> None:
    (installation.root / "fake" / "agree").write_text("3")
    assert installation.run("backup.sh", "--include-dicom")[0] == 3
    agreed = [call for call in installation.calls if "backup agree" in call]
    assert ["--accept-missing" in call for call in agreed] == [False, False, True]
    assert installation.imports


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_backup_that_is_stopped_leaves_nothing(installation: Installation, number: signal.Signals) -> None:
    # A shell without a terminal starts what it puts into the background with SIGINT ignored, a test does not.
    process = installation.hanging("backup.sh", on="pg_dump.*orthanc")
    assert not installation.imports
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode > 128
    assert installation.left == []
    assert installation.imports


def test_importing_goes_on_when_a_backup_is_killed(installation: Installation) -> None:
    process = installation.hanging("backup.sh", on="pg_dump.*orthanc")
    assert not installation.imports
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: installation.imports)
    wait_until(lambda: ".importing-paused" not in installation.left)
    # What it left is no backup.
    assert all(name.endswith(".partial") for name in installation.left)


def test_a_backup_whose_machine_died_is_made_good_by_the_next(installation: Installation) -> None:
    (installation.backups / ".importing-paused").touch()
    (installation.root / "fake" / "running").write_text("postgres\nkeycloak\northanc\n")
    code, said = installation.run("backup.sh", FAIL_ON="kc.sh")
    assert code == 1
    assert "killed while importing was paused" in said
    assert installation.imports
    assert installation.left == []


def test_an_importer_that_does_not_run_is_not_started(installation: Installation) -> None:
    (installation.root / "fake" / "running").write_text("postgres\nkeycloak\northanc\n")
    assert installation.run("backup.sh")[0] == 0
    assert not installation.imports


def test_an_importer_that_somebody_starts_meanwhile_spoils_the_backup(installation: Installation) -> None:
    docker = installation.root / "bin" / "docker"
    script = docker.read_text().replace(
        '*" pg_dump "*) ', '*" pg_dump "*orthanc) echo importer >> "$FAKE/running" ;;\n    *" pg_dump "*) '
    )
    docker.write_text(script)
    code, said = installation.run("backup.sh")
    assert code == 1
    assert "the importer was started" in said


def test_one_at_a_time(installation: Installation) -> None:
    process = installation.hanging("backup.sh", on="kc.sh")
    installation.add_backup()
    for script, arguments in (("backup.sh", ()), ("restore.sh", (NAME, "--yes", "--stop"))):
        code, said = installation.run(script, *arguments)
        assert code == 1
        assert "under way already" in said
    process.terminate()
    process.communicate(timeout=30)
    assert installation.left == [NAME]


@pytest.mark.parametrize("stopped", ["postgres", "keycloak", "orthanc"])
def test_a_platform_that_does_not_run_is_not_backed_up(installation: Installation, stopped: str) -> None:
    running = installation.root / "fake" / "running"
    running.write_text(running.read_text().replace(f"{stopped}\n", ""))
    code, said = installation.run("backup.sh")
    assert code == 1
    assert f"{stopped} does not run" in said


@pytest.mark.parametrize("keep", ["0", "-1", "many", "1; rm -r ."])
def test_a_number_that_is_none_is_refused(installation: Installation, keep: str) -> None:
    assert installation.run("backup.sh", BACKUP_KEEP=keep)[0] == 1
    assert installation.left == []


def test_the_newest_is_told(installation: Installation) -> None:
    assert installation.run("backup.sh", "--latest") == (0, "")
    place = installation.add_backup()
    (installation.backups / "clinicpacs-20270102T030405Z.partial").mkdir()
    assert installation.run("backup.sh", "--latest") == (0, f"{place}\n")


CHANGES = ("compose up", "compose stop", "psql", "10-databases", "put-back", "refile", "start")


def changes(installation: Installation) -> list[str]:
    return [call for call in installation.calls if any(part in call for part in CHANGES)]


@pytest.mark.parametrize(
    ("arguments", "env", "told"),
    [
        ([NAME, "--yes"], {}, "the platform runs"),
        ([NAME, "--yes", "--stop"], {"FAIL_ON": "backup verify"}, "nothing was changed"),
        ([NAME, "--stop"], {}, "nothing was changed"),
        (["clinicpacs-20200101T000000Z", "--yes", "--stop"], {}, "is no complete backup"),
        (["/etc/passwd", "--yes", "--stop"], {}, "is not in"),
        ([NAME, "--yes", "--stop"], {"FAIL_ON": "--version"}, "image is missing"),
    ],
)
def test_what_is_refused_changes_nothing(
    installation: Installation, arguments: list[str], env: dict[str, str], told: str
) -> None:
    installation.add_backup()
    before = (installation.root / ".env").read_text()
    code, said = installation.run("restore.sh", *arguments, **env)
    assert code == 1
    assert told in said
    assert changes(installation) == []
    assert (installation.root / ".env").read_text() == before


def test_secrets_of_the_realm_come_with_its_database(installation: Installation) -> None:
    env = installation.root / ".env"
    env.write_text(env.read_text().replace("=old", "=then"))
    installation.add_backup()
    env.write_text(env.read_text().replace("=then", "=now"))
    # It ends where the stand-in has no database to restore into; what came before is what counts.
    installation.run("restore.sh", NAME, "--yes", "--stop", FAIL_ON="compose up")
    assert {"KEYCLOAK_CLIENT_SECRET=then", "POSTGRES_PASSWORD=now"} <= set(env.read_text().splitlines())
    assert (installation.root / "secrets" / "KEYCLOAK_CLIENT_SECRET").read_text() == "then"
    (kept,) = installation.root.glob(".env.before-restore-*")
    assert "KEYCLOAK_CLIENT_SECRET=now" in kept.read_text()


def test_a_database_that_cannot_be_restored_leaves_the_old_ones(installation: Installation) -> None:
    installation.add_backup()
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop", FAIL_ON="pg_restore .*- keycloak$")
    assert code == 1
    assert "the old ones are untouched" in said
    assert not any("RENAME" in call for call in installation.calls)
    assert not any("put-back" in call for call in installation.calls)


def test_a_backup_is_encrypted_to_the_keys_that_are_named(installation: Installation) -> None:
    env = installation.root / ".env"
    keys = [f"age1{letter * 58}" for letter in "qp"]
    env.write_text(env.read_text() + f"BACKUP_KEY='{', '.join(keys)}'\n")
    code, said = installation.run("backup.sh", "--include-dicom")
    assert code == 0, said
    for step in ("begin", "copy", "agree", "seal"):
        call = installation.calls[installation.first_call(f"admin backup {step}")]
        assert all(f"--key {key}" in call for key in keys), call
    assert "IDENTITY=FILE" in said


def test_a_key_that_is_none_is_told_before_anything_is_done(installation: Installation) -> None:
    env = installation.root / ".env"
    env.write_text(env.read_text() + "BACKUP_KEY=AGE-SECRET-KEY-1\n")
    code, said = installation.run("backup.sh")
    assert code == 1
    assert "no age public key" in said
    assert installation.left == []
    assert not any("backup" in call for call in installation.calls)


@pytest.mark.parametrize(("identity", "told"), [(None, "--identity"), ("another", "could not be decrypted")])
def test_an_encrypted_backup_without_its_key_changes_nothing(
    installation: Installation, identity: str | None, told: str
) -> None:
    encrypted_backup(installation)
    options = []
    if identity:
        (installation.root / "key").write_text(identity)
        options = ["--identity", str(installation.root / "key")]
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop", *options)
    assert code == 1
    assert told in said
    assert changes(installation) == []
    assert installation.left == [NAME]


def test_an_encrypted_backup_is_open_only_while_it_is_restored(installation: Installation) -> None:
    encrypted_backup(installation)
    (installation.root / "key").write_text("private key")
    options = ["--identity", str(installation.root / "key")]
    installation.run("restore.sh", NAME, "--yes", "--stop", *options, FAIL_ON="pg_restore .*- keycloak$")
    restored = installation.calls[installation.first_call("pg_restore --host")]
    assert f"/.opened-{NAME}:/backup:ro" in restored
    assert installation.left == [NAME]


def encrypted_backup(installation: Installation) -> None:
    place = installation.add_backup()
    (place / "configuration.tar").rename(place / "configuration.tar.age")
    (installation.root / "fake" / "encrypted").write_text("yes")
