"""backup.sh and restore.sh: what they refuse, and what they leave behind when they fail or are killed."""

from __future__ import annotations

import os
import pty
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
        # In what a shell without a terminal put into the background SIGINT is ignored, and bash leaves it so.
        return subprocess.Popen(
            ["env", "--default-signal=INT", self.root / "scripts" / script, *arguments],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str, **env: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(script, *arguments, **env)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def hanging(self, script: str, *arguments: str, on: str) -> subprocess.Popen[str]:
        """A script that runs and hangs in a certain call of docker."""
        process = self.start(script, *arguments, HANG_ON=on)
        wait_until((self.root / "fake" / "hanging").exists)
        return process

    def let_go(self) -> None:
        """What hangs goes on."""
        (self.root / "fake" / "go-on").touch()

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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--identity"], "--identity wants a file"), ([NAME, NAME], "one backup at a time")],
)
def test_wrong_use_of_restore_is_told(installation: Installation, arguments: list[str], told: str) -> None:
    assert installation.run("restore.sh", *arguments) == (2, f"restore.sh: {told}\n")


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
        f"admin backup record backup {installation.left[0]} --include-dicom",
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
        *("catalog.dump", "keycloak.dump", "orthanc.dump"),
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
        "pg_dump.*keycloak",
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
    process = installation.hanging("backup.sh", on="pg_dump.*orthanc")
    assert not installation.imports
    process.send_signal(number)
    installation.let_go()
    process.communicate(timeout=120)
    assert process.returncode > 128
    assert installation.left == []
    assert installation.imports


def test_importing_goes_on_when_a_backup_is_killed(installation: Installation) -> None:
    process = installation.hanging("backup.sh", on="pg_dump.*orthanc")
    assert not installation.imports
    process.kill()
    installation.let_go()
    process.communicate(timeout=120)
    wait_until(lambda: installation.imports)
    wait_until(lambda: ".importing-paused" not in installation.left)
    # What it left is no backup.
    assert all(name.endswith(".partial") for name in installation.left)


def test_a_backup_whose_machine_died_is_made_good_by_the_next(installation: Installation) -> None:
    (installation.backups / ".importing-paused").touch()
    (installation.root / "fake" / "running").write_text("postgres\nkeycloak\northanc\n")
    code, said = installation.run("backup.sh", FAIL_ON="pg_dump.*keycloak")
    assert code == 1
    assert "killed while importing was paused" in said
    assert installation.imports
    assert installation.left == []


def test_an_importer_that_does_not_run_is_not_started(installation: Installation) -> None:
    (installation.root / "fake" / "running").write_text("postgres\nkeycloak\northanc\n")
    assert installation.run("backup.sh")[0] == 0
    assert not installation.imports


@pytest.mark.parametrize("before", ["importer\n", ""])
def test_an_importer_that_somebody_starts_meanwhile_spoils_the_backup(
    installation: Installation, before: str
) -> None:
    (installation.root / "fake" / "running").write_text(f"postgres\nkeycloak\northanc\n{before}")
    docker = installation.root / "bin" / "docker"
    script = docker.read_text().replace(
        '*" pg_dump "*) ', '*" pg_dump "*orthanc) echo importer >> "$FAKE/running" ;;\n    *" pg_dump "*) '
    )
    docker.write_text(script)
    code, said = installation.run("backup.sh")
    assert code == 1
    assert "the importer was started" in said
    assert installation.left == []


def test_no_service_s_own_version_is_started_on_the_databases(installation: Installation) -> None:
    """An upgrade backs up what the version before runs: the new Keycloak would refuse or migrate it."""
    assert installation.run("backup.sh")[0] == 0
    started = [call for call in installation.calls if "compose run" in call]
    assert started
    assert all(" admin backup " in call for call in started)


def test_certbot_s_links_come_back_as_links(installation: Installation) -> None:
    certs = installation.root / "certs"
    for folder in ("letsencrypt", "letsencrypt-staging"):
        live, archive = (certs / folder / name / "clinicpacs" for name in ("live", "archive"))
        live.mkdir(parents=True)
        archive.mkdir(parents=True)
        (archive / "cert1.pem").write_text("issued")
        (live / "cert.pem").symlink_to("../../archive/clinicpacs/cert1.pem")
    (certs / "real.pem").write_text("chain")
    (certs / "fullchain.pem").symlink_to("real.pem")
    assert installation.run("backup.sh")[0] == 0
    (name,) = installation.left
    shutil.rmtree(certs)
    installation.run("restore.sh", name, "--with-config", "--yes", "--stop", FAIL_ON="compose up")
    link = certs / "letsencrypt/live/clinicpacs/cert.pem"
    assert (link.is_symlink(), link.read_text()) == (True, "issued")
    assert not (certs / "fullchain.pem").is_symlink()
    assert not (certs / "letsencrypt-staging").exists()


def test_one_at_a_time(installation: Installation) -> None:
    process = installation.hanging("backup.sh", on="pg_dump.*keycloak")
    installation.add_backup()
    for script, arguments in (("backup.sh", ()), ("restore.sh", (NAME, "--yes", "--stop"))):
        code, said = installation.run(script, *arguments)
        assert code == 1
        assert "under way already" in said
    process.terminate()
    installation.let_go()
    process.communicate(timeout=120)
    assert installation.left == [NAME]


@pytest.mark.parametrize("stopped", ["postgres", "orthanc"])
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
    beside = installation.backups.rename(installation.root / "back ups")
    told = installation.run("backup.sh", "--latest", BACKUP_PATH=str(beside))
    assert told == (0, f"{beside / place.name}\n")


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


def test_a_backup_that_cannot_be_recorded_is_not_made(installation: Installation) -> None:
    code, _ = installation.run("backup.sh", FAIL_ON="admin backup record")
    assert (code, installation.left) == (1, [])
    assert not any("pg_dump" in call for call in installation.calls)


def test_a_restore_is_recorded_in_the_catalog_that_it_brings_back(installation: Installation) -> None:
    installation.add_backup()
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop", SUDO_USER="ada")
    assert code == 0, said
    places = [
        installation.first_call(part)
        for part in ("RENAME TO catalog", "admin backup compare", "migrate", "admin backup record restore")
    ]
    assert places == sorted(places)
    call = installation.calls[places[-1]]
    assert "--env CLINICPACS_OPERATOR=ada " in call
    assert call.endswith(f"record restore {NAME}")


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


WITHDRAWN = "2026-01-03T00:00:00Z remove-user sam"


def withdraw(installation: Installation) -> None:
    """What the old databases tell and the backup's do not."""
    docker = installation.root / "bin" / "docker"
    told = f'    *" catalog --command"*remove-user*) echo "{WITHDRAWN}" ;;\n'
    docker.write_text(docker.read_text().replace("case $call in\n", f"case $call in\n{told}"))
    installation.add_backup()


def started(installation: Installation) -> str:
    return next(call for call in reversed(installation.calls) if "compose up" in call)


def test_what_was_withdrawn_since_is_listed_before_the_old_databases_go(installation: Installation) -> None:
    withdraw(installation)
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop", FAIL_ON="RENAME")
    assert code == 1
    assert "WITHDRAWN SINCE THE BACKUP, and given back by it: 1 remove-user" in said
    (file,) = installation.root.glob("withdrawn-before-restore-*.txt")
    assert (file.read_text(), file.stat().st_mode & 0o077) == (f"{WITHDRAWN}\n", 0)


def test_a_restore_that_asks_nothing_lets_users_in_and_says_what_is_to_be_done(
    installation: Installation,
) -> None:
    withdraw(installation)
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop")
    assert code == 0, said
    assert started(installation).endswith("--wait-timeout 900")
    assert "withdraw it anew" in said.splitlines()[-1]


@pytest.mark.parametrize(("answer", "services"), [("n", " importer keycloak"), ("y", "")])
def test_users_come_in_when_the_administrator_says_so(
    installation: Installation, answer: str, services: str
) -> None:
    withdraw(installation)
    ours, theirs = pty.openpty()
    os.write(ours, f"restore\n{answer}\n".encode())
    done = subprocess.run(
        [installation.root / "scripts" / "restore.sh", NAME, "--stop"],
        env=installation.env,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert started(installation).endswith(f"--wait-timeout 900{services}")
    assert ("Users cannot come in yet" in done.stdout) == (answer == "n")


def test_nothing_is_asked_when_nothing_was_withdrawn(installation: Installation) -> None:
    installation.add_backup()
    code, said = installation.run("restore.sh", NAME, "--yes", "--stop")
    assert code == 0, said
    assert "WITHDRAWN" not in said
    assert not list(installation.root.glob("withdrawn-*"))
