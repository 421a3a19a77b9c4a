"""A backup with images, everything destroyed, and the same platform again: studies, users, counts."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread

from admin.backup.crypt import decrypt_into, decryption
from support.corpus import write_study
from support.stack import wait_until
from support.viewer import open_study, shows_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from support.people import Physician
    from support.stack import Stack

CLINIC = "northside"
BEFORE, AFTER = 5101, 5102


def drop(stack: Stack, files: list[Path], folder: str) -> None:
    """Into the inbox as a user of the host does, and wait until all of it is filed."""
    place = stack.path("inbox", CLINIC) / folder
    place.mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, place / f".{file.name}")
        (place / f".{file.name}").rename(place / file.name)
    names = {file.name for file in files}
    wait_until(lambda: filed(stack, folder) >= names, 120, f"{folder} is filed")


def filed(stack: Stack, folder: str) -> set[str]:
    return {path.name for path in stack.path("processed", CLINIC).glob(f"*/{folder}/*")}


def corrected(original: Path, folder: Path) -> Path:
    """The same instance with another text in it."""
    ds = dcmread(original)
    ds.ImageComments = "corrected"
    buffer = BytesIO()
    ds.save_as(buffer)
    # Its name sorts before those of the others: only the order of filing says that it is newer.
    folder.mkdir()
    path = folder / "A-corrected.dcm"
    path.write_bytes(buffer.getvalue())
    return path


def comments(stack: Stack, sop_instance_uid: str) -> str:
    """ImageComments of an instance as the archive has it."""
    token = stack.scripts_token()
    found = stack.request("POST", "/orthanc/tools/lookup", token, data=sop_instance_uid)
    assert found.status_code == 200, found.text
    (entry,) = [entry for entry in found.json() if entry["Type"] == "Instance"]
    tags = stack.get(f"/orthanc/instances/{entry['ID']}/tags?simplify", token).json()
    return str(tags.get("ImageComments", ""))


def counts(stack: Stack) -> dict[str, Any]:
    numbers: dict[str, Any] = stack.get("/orthanc/statistics", stack.scripts_token()).json()
    return {name: numbers[name] for name in ("CountStudies", "CountSeries", "CountInstances")}


@pytest.fixture(scope="module")
def identity(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key that backups are encrypted to; its public half is in `.env`."""
    told = stack.clinicpacs("backup", "new-key").stdout
    public = re.search(r"BACKUP_KEY=(age1[0-9a-z]+)", told)
    assert public
    stack.run("scripts/setup.sh", "--set", f"BACKUP_KEY={public[1]}", "--no-pull")
    file = tmp_path_factory.mktemp("safe") / "key.txt"
    file.write_text(told)
    return file


@pytest.fixture(scope="module")
def backup(
    people: dict[str, Physician],
    stack: Stack,
    browser: Browser,
    identity: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An encrypted backup with the images of one study; another study and a correction came after it."""
    with browser.new_context(ignore_https_errors=True) as context:
        # The first sign-in sets the password, which is to be the same after the restore.
        context.set_default_timeout(60_000)
        people["nora"].sign_in(context.new_page())
    folder = tmp_path_factory.mktemp("studies")
    old = write_study(folder / "old", "CT", instances=3, seed=BEFORE)
    drop(stack, old, "old")
    said = stack.make("backup", INCLUDE_DICOM="1")
    assert "importing goes on" in said
    place = next(line.partition(": ")[2] for line in said.splitlines() if "The backup is complete" in line)
    drop(stack, write_study(folder / "new", "MR", instances=3, seed=AFTER), "new")
    drop(stack, [corrected(old[0], folder / "corrected")], "corrected")
    return stack.root / place


def test_a_backup_is_listed_verified_and_told_to_the_monitoring(stack: Stack, backup: Path) -> None:
    assert backup.name in stack.make("backup-list")
    assert "as it was made" in stack.run("scripts/backup.sh", "--verify", backup.name).stdout
    assert stack.run("scripts/backup.sh", "--latest").stdout.strip() == str(backup)
    assert backup.stat().st_mode & 0o077 == 0
    assert not list(backup.glob("*.dump"))
    assert all(path.read_bytes().startswith(b"age-encryption.org/v1") for path in backup.glob("dicom/*/*/*"))
    # Importing rested, and goes on; what came meanwhile is filed, or the fixture would have failed.
    assert "importer" in stack.compose("ps", "--services", "--status", "running")
    metric = "clinicpacs_backup_includes_dicom"
    wait_until(lambda: stack.metric(metric) == 1, 120, "Prometheus knows of the backup")


def test_what_cannot_be_restored_is_refused(stack: Stack, backup: Path, identity: Path) -> None:
    """A running platform, an encrypted backup without its key, a damaged one."""
    key = ("--identity", str(identity))
    refused = stack.run("scripts/restore.sh", backup.name, "--yes", check=False)
    assert refused.returncode == 1
    assert "--identity" in refused.stderr
    refused = stack.run("scripts/restore.sh", backup.name, *key, "--yes", check=False)
    assert refused.returncode == 1
    assert "the platform runs" in refused.stderr
    damaged = backup.with_name("clinicpacs-20200101T000000Z")
    shutil.copytree(backup, damaged, copy_function=shutil.copy)
    for path in (damaged, *damaged.rglob("*")):
        shutil.chown(path, int(stack.settings["PACS_UID"]), int(stack.settings["PACS_GID"]))
    image = next(damaged.glob("dicom/*/*/*"))
    content = bytearray(image.read_bytes())
    content[200] ^= 1
    image.chmod(0o600)
    image.write_bytes(bytes(content))
    refused = stack.run("scripts/restore.sh", damaged.name, *key, "--yes", "--stop", check=False)
    shutil.rmtree(damaged)
    assert refused.returncode == 1
    assert "is not as it was backed up" in refused.stderr
    assert stack.unhealthy() == []


def test_all_volumes_are_destroyed_and_all_comes_back(
    stack: Stack, backup: Path, identity: Path, tmp_path: Path
) -> None:
    before = counts(stack)
    uid = str(dcmread(next(stack.path("processed", CLINIC).glob("*/corrected/*"))).SOPInstanceUID)
    assert comments(stack, uid) == "corrected"

    stack.compose("down", "--volumes", "--timeout", "30")
    shutil.rmtree(stack.root / stack.settings["DICOM_STORAGE_PATH"])
    shutil.rmtree(stack.root / "certs")
    shutil.rmtree(stack.root / "secrets")
    (stack.root / ".env").unlink()
    refused = stack.run("scripts/restore.sh", str(backup), "--with-config", "--yes", check=False)
    assert "age --decrypt" in refused.stderr
    settings = decrypt_into(tmp_path, backup / "configuration.tar.age", decryption(identity.read_text()))
    subprocess.run(["tar", "--extract", "--file", settings, ".env"], cwd=stack.root, check=True)
    key = ("--identity", str(identity))
    done = stack.run("scripts/restore.sh", str(backup), *key, "--with-config", "--yes")
    assert not list(backup.parent.glob(".opened-*"))
    assert "hold as many rows as the backup" in done.stdout
    assert "no audit trail is left here" in done.stderr
    stack.wait_until_healthy()

    # What was stored after the backup is imported anew, the correction behind what it corrects.
    wait_until(lambda: filed(stack, "new") and filed(stack, "corrected"), 180, "all is filed anew")
    wait_until(lambda: counts(stack) == before, 120, "the archive holds what it held")
    assert comments(stack, uid) == "corrected"


@pytest.mark.parametrize("accession", [f"A{BEFORE}", f"A{AFTER}"])
def test_the_same_user_signs_in_and_the_same_study_opens(
    stack: Stack, backup: Path, sign_in: Callable[[str], Page], accession: str
) -> None:
    page = sign_in("nora")
    wait_until(lambda: shows_up(page, accession), 180, "the study is listed")
    open_study(page, accession)


def test_a_restore_can_ask_these_databases_what_was_withdrawn(stack: Stack, backup: Path) -> None:
    parts = "".join(f". scripts/lib/{name}.sh; " for name in ("load", "backup", "withdrawn"))
    asked = 'psql_of keycloak --command "$RIGHTS"; psql_of catalog --command "$WITHDRAWALS"; has_audit_trail'
    said = stack.run("bash", "-c", f"set -euo pipefail; {parts}{asked}").stdout
    assert f"Keycloak: clinic {CLINIC} of nora" in said.splitlines()


def test_a_second_backup_shares_its_images_with_the_first(stack: Stack, backup: Path) -> None:
    said = stack.make("backup", INCLUDE_DICOM="1")
    place = next(line.partition(": ")[2] for line in said.splitlines() if "The backup is complete" in line)
    mine = {path.name: path.stat().st_ino for path in (stack.root / place).glob("dicom/*/*/*")}
    theirs = {path.name: path.stat().st_ino for path in backup.glob("dicom/*/*/*")}
    shared = mine.keys() & theirs.keys()
    assert shared
    assert all(mine[name] == theirs[name] for name in shared)


def test_importing_goes_on_when_a_backup_is_killed(stack: Stack, backup: Path) -> None:

    process = subprocess.Popen(
        ["scripts/backup.sh", "--include-dicom"], cwd=stack.root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Pausing" in line:
            break
    mark = stack.root / stack.settings["BACKUP_PATH"] / ".importing-paused"
    wait_until(mark.exists, 60, "importing rests", every=0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not mark.exists(), 120, "importing goes on")
    assert "importer" in stack.compose("ps", "--services", "--status", "running")
    assert backup.name in stack.make("backup-list")
