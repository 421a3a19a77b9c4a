"""The steps of restore.sh that run in a container."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from admin.backup import crypt, images, restored_images
from admin.backup.dump import Attached
from admin.backup.manifest import Manifest, Rows
from admin.backup.seal import total_bytes
from admin.backup.shelf import BackupName, sync
from admin.commands.backup_steps import ANY, BACKUPS, NAME, STORAGE, Shelved, progress, step
from admin.terminal import FailedError, console, counted, megabytes, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAIN = {
    ("catalog", "public.clinics"): "clinics",
    ("catalog", "public.studies"): "studies with an owner",
    ("catalog", "public.series"): "series with an owner",
    ("catalog", "public.study_access"): "studies shared",
    ("catalog", "public.audit"): "audit rows",
    ("keycloak", "public.user_entity"): "users, with Keycloak's own",
    ("keycloak", "public.user_group_membership"): "memberships of clinics",
    ("orthanc", "public.attachedfiles"): "files in the archive's index",
}


@step("show", ANY)
@NAME
@BACKUPS
def show(shelf: Shelved, name: str) -> None:
    """Say what a backup holds."""
    manifest = Manifest.read(shelf.find(name))
    click.echo(
        f"    made {manifest.begun_at:%Y-%m-%d %H:%M:%S} UTC by clinicpacs {manifest.clinicpacs}, "
        f"{megabytes(total_bytes(manifest))}"
    )
    for (database, name_of_table), text in _MAIN.items():
        click.echo(f"    {manifest.databases[database].get(name_of_table, 0):>9} {text}")
    for level, number in manifest.resources.items():
        click.echo(f"    {number:>9} {level} in the archive")
    for text in manifest.absent:
        click.echo(f"    not inside: {text}")


@step("field", f"{ANY} paused_at")
@NAME
@click.argument("field", type=click.Choice(["paused_at", "images", "services", "encrypted"]))
@BACKUPS
def field(shelf: Shelved, name: str, field: str) -> None:
    """Print one thing for the script."""
    manifest = Manifest.read(shelf.find(name))
    if field == "paused_at":
        click.echo(manifest.paused_at.isoformat())
    elif field == "images":
        click.echo("yes" if manifest.images else "no")
    elif field == "encrypted":
        click.echo("yes" if manifest.keys else "no")
    else:
        for service, image in manifest.services.items():
            click.echo(f"{service}={image}")


@step("open", ANY)
@NAME
@BACKUPS
def open_encrypted(shelf: Shelved, name: str) -> None:
    """Decrypt all but the images for a restore; the identity file comes on stdin."""
    decrypt = crypt.decryption(sys.stdin.read())
    folder = shelf.find(name)
    opened = shelf.opened(BackupName(name))
    shutil.rmtree(opened, ignore_errors=True)
    opened.mkdir(mode=0o700)
    for file in Manifest.read(folder).files:
        if file.path.endswith(crypt.SUFFIX):
            crypt.decrypt_into(opened, folder / file.path, decrypt)


@step("close", ANY)
@NAME
@BACKUPS
def close_encrypted(shelf: Shelved, name: str) -> None:
    """Remove what `open` decrypted."""
    shutil.rmtree(shelf.opened(BackupName(name)), ignore_errors=True)


@step("put-back", f"{ANY} --aside .before-restore-20260102T030405Z")
@NAME
@click.option("--aside", required=True, help="Folder in the archive's for what the backup does not know.")
@STORAGE
@BACKUPS
def put_back(shelf: Shelved, name: str, aside: str, storage: Path) -> None:
    """Bring the archive's files back; what is too much there is moved aside, nothing is deleted.

    Of an encrypted backup the identity file comes on stdin.
    """
    bar = progress("files brought back or found to be right")
    folder = shelf.find(name)
    coding = crypt.decryption(sys.stdin.read()) if Manifest.read(folder).keys else shutil.copyfileobj
    done = restored_images.put_back(folder, storage, aside, lambda done: bar(done.copied + done.kept), coding)
    sync(storage)
    click.echo(f"    {counted(done.copied, 'file')} copied, {done.kept} were there as they should be")
    if done.aside:
        click.echo(
            f"    {counted(done.aside, 'file')} that the backup does not know moved aside to {done.place} "
            "in the archive's folder: remove that once all is well"
        )


@step("check-images", "--missing 0")
@click.option("--missing", type=int, default=0, help="So many were missing when the backup was made.")
@STORAGE
@BACKUPS
def check_images(shelf: Shelved, missing: int, storage: Path) -> None:
    """Hold the archive's folder against its index on stdin, a line `UUID<tab>SIZE` each."""
    del shelf
    found = restored_images.compare(storage, _indexed())
    click.echo(f"    {counted(found.right, 'file')} of the archive's index are there")
    if found.unknown:
        click.echo(
            f"    {counted(found.unknown, 'file')} in the archive's folder are in no index: stored since the "
            "backup; what is filed in processed is imported anew, and takes new ones"
        )
    if found.missing > missing:
        raise FailedError(
            f"{counted(found.missing, 'file')} that the archive's index names are not there: their images "
            "cannot be opened until they are imported anew"
        )


def _indexed() -> Iterator[Attached]:
    for line in sys.stdin:
        uuid, _, size = line.rstrip("\n").partition("\t")
        if not images.is_uuid(uuid):
            raise FailedError("unexpected file name in the archive's index")
        yield Attached(uuid, int(size))


@step("compare", ANY)
@NAME
@BACKUPS
def compare(shelf: Shelved, name: str) -> None:
    """Hold the databases on stdin, a line `DATABASE|TABLE|ROWS` each, against the backup."""
    manifest = Manifest.read(shelf.find(name))
    found = _found()
    listed = table("Restored", "", "in the backup", "now", right=("in the backup", "now"))
    differing = 0
    for database, expected in manifest.databases.items():
        now = found.get(database, {})
        for name_of_table in sorted(expected.keys() | now.keys()):
            numbers = expected.get(name_of_table), now.get(name_of_table)
            differing += numbers[0] != numbers[1]
            text = _MAIN.get((database, name_of_table))
            if text or numbers[0] != numbers[1]:
                label = text or f"{database}: {name_of_table}"
                listed.add_row(label, *("none" if number is None else str(number) for number in numbers))
    console().print(listed)
    if differing:
        raise FailedError(f"{counted(differing, 'table')} are not as they were backed up")
    tables = sum(len(rows) for rows in manifest.databases.values())
    click.echo(f"    all {tables} tables hold as many rows as the backup")


def _found() -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for line in sys.stdin:
        database, _, rest = line.rstrip("\n").partition("|")
        name, _, rows = rest.rpartition("|")
        found.setdefault(database, {})[name] = int(rows)
    return found


STEPS = (show, field, open_encrypted, close_encrypted, put_back, check_images, compare)
