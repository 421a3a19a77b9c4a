"""The steps of backup.sh that run in a container. The script holds the lock and knows their order."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin.backup import crypt, images
from admin.backup.crypt import EncryptionError
from admin.backup.dump import TruncatedDumpError, count
from admin.backup.filing_order import as_time, file_system_time
from admin.backup.images import ImageCopies, Progress
from admin.backup.indexed import IndexedFiles
from admin.backup.manifest import Images, ManifestError
from admin.backup.seal import (
    DATABASES,
    WORK,
    Account,
    note_images,
    note_rows,
    seal,
    total_bytes,
    write_metrics,
)
from admin.backup.shelf import BackupName, InvalidBackupNameError, Shelf
from admin.teaching import Command
from admin.terminal import TIME, FailedError, counted, megabytes, shown, with_platform
from pacs.catalog.errors import CatalogVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from admin.platform import Platform

DISAGREE = 3
"""Exit code: the archive's files are not those of the dump; dumped once more, they may be."""

_TELL_SECONDS = 5.0


class Shelved(Shelf):
    """The shelf as commands use it: what goes wrong there is a sentence."""

    def find(self, name: str) -> Path:
        """The folder of a complete backup.

        Raises:
            FailedError: there is none of that name.
        """
        wanted = BackupName(name)
        if wanted not in self.complete():
            raise FailedError(f"there is no complete backup {wanted}; `clinicpacs backup list` lists them")
        return self.place(wanted)


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except (ManifestError, InvalidBackupNameError, TruncatedDumpError, EncryptionError) as error:
        raise FailedError(shown(str(error))) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FailedError(shown(f"{error.filename or 'a file'}: {error.strerror}")) from error


def BACKUPS(function: Callable[..., None]) -> Callable[..., None]:  # noqa: N802 - an option of several commands
    """Give a command the folder of the backups."""

    @click.option(
        "--backups",
        type=click.Path(file_okay=False, path_type=Path),
        default="/backups",
        show_default=True,
        help="The folder of the backups.",
    )
    @wraps(function)
    def command(*args: Any, backups: Path, **kwargs: Any) -> None:
        if not backups.is_dir():
            raise FailedError(f"there is no folder {backups} here; on the server: ./clinicpacs backup list")
        with _sentences():
            function(Shelved(backups), *args, **kwargs)

    return command


NAME = click.argument("name", metavar="BACKUP")
STORAGE = click.option(
    "--storage",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default="/dicom",
    show_default=True,
    help="The archive's folder.",
)


def progress(what: str) -> Callable[[int], None]:
    """Tells every few seconds how many are done."""
    last_told_at = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last_told_at
        if time.monotonic() - last_told_at >= _TELL_SECONDS:
            last_told_at = time.monotonic()
            click.echo(f"    {done} {what}", err=True)

    return tell


KEYS = click.option("--key", "keys", multiple=True, metavar="AGE-KEY", help="Encrypt it to this public key.")


def _copying() -> Callable[[Progress], None]:
    tell = progress("files of the archive are in the backup")
    return lambda done: tell(done.files)


def step(name: str, usage: str) -> Callable[[Callable[..., None]], click.Command]:
    """A hidden command of the group."""
    return click.command(
        name, cls=Command, hidden=True, examples=(f"clinicpacs backup {name} {usage}".strip(),)
    )


ANY = "clinicpacs-20260102T030405Z"


@step("begin", ANY)
@NAME
@KEYS
@BACKUPS
def begin(shelf: Shelved, name: str, keys: tuple[str, ...]) -> None:
    """Make the folder of a new backup; remove what runs that died left."""
    crypt.recipients(keys)
    for left in shelf.sweep():
        click.echo(f"    {left} was never finished: removed", err=True)
    shelf.begin(BackupName(name))


@step("record", f"backup {ANY}")
@click.argument("action", type=click.Choice(["backup", "restore"]))
@NAME
@click.option("--include-dicom", is_flag=True, help="With the images.")
@with_platform
def record(platform: Platform, action: str, name: str, *, include_dicom: bool) -> None:
    """Put into the audit trail that a backup is made, or that one was restored."""
    with _sentences():
        detail = f"{BackupName(name)}{' with images' if include_dicom else ''}"
    try:
        with platform.catalog.write() as connection:
            platform.record(connection, action, detail=detail)
    except CatalogVersionError:
        # An upgrade backs up what it has not migrated yet.
        click.echo("    not in the audit trail: the catalog is of another version", err=True)


@step("abandon", ANY)
@NAME
@BACKUPS
def abandon(shelf: Shelved, name: str) -> None:
    """Remove a backup that could not be finished."""
    BackupName(name)
    shelf.sweep()


@step("copy", ANY)
@NAME
@STORAGE
@KEYS
@BACKUPS
def copy(shelf: Shelved, name: str, storage: Path, keys: tuple[str, ...]) -> None:
    """Copy the archive's files, while it works; hard links to those that the last backup holds."""
    done = _copies(shelf, BackupName(name), storage, keys).copy_all(_copying())
    click.echo(
        f"    {counted(done.files, 'file')}, {megabytes(done.bytes)}: "
        f"{megabytes(done.copied_bytes)} copied, the others shared with the backup before"
    )


def _copies(shelf: Shelved, name: BackupName, storage: Path, keys: tuple[str, ...]) -> ImageCopies:
    previous = shelf.newest_with_images(keys)
    partial = shelf.partial(name)
    return ImageCopies(storage, partial, partial / WORK, shelf.place(previous) if previous else None, keys)


@step("clock", "")
@with_platform
def clock(platform: Platform) -> None:
    """Print the time of the file system that files are filed in."""
    platform.settings.processed_path.mkdir(parents=True, exist_ok=True)
    click.echo(as_time(file_system_time(platform.settings.processed_path)).isoformat())


@step("agree", ANY)
@NAME
@click.option("--accept-missing", is_flag=True, help="Finish although the archive lacks files.")
@STORAGE
@KEYS
@BACKUPS
def agree(shelf: Shelved, name: str, storage: Path, keys: tuple[str, ...], *, accept_missing: bool) -> None:
    """Make the copies those that the index on stdin names; exit code 3 when the archive lacks some.

    Stdin: the table attachedfiles of the archive's dump, as `pg_restore --data-only` writes it.
    """
    partial = shelf.partial(BackupName(name))
    index = IndexedFiles(partial / WORK / "indexed")
    index.clear()
    count(sys.stdin.buffer, index.add)
    index.flush()
    done, missing = _copies(shelf, BackupName(name), storage, keys).agree(index, _copying())
    if missing and not accept_missing:
        click.echo(f"    {counted(len(missing), 'file')} went while the index was dumped", err=True)
        raise click.exceptions.Exit(DISAGREE)
    if missing:
        (partial / images.FOLDER / "missing.txt").write_text("".join(f"{uuid}\n" for uuid in missing))
        click.echo(
            f"    warning: the archive's index names {counted(len(missing), 'file')} that it does not "
            "have: dicom/missing.txt lists them",
            err=True,
        )
    note_images(partial / WORK, Images(done.files, done.bytes, len(missing)))
    click.echo(
        f"    {counted(done.files, 'file')} as in the index, {megabytes(done.copied_bytes)} copied now"
    )


@step("rows", f"{ANY} catalog")
@NAME
@click.argument("database", type=click.Choice(DATABASES))
@BACKUPS
def rows(shelf: Shelved, name: str, database: str) -> None:
    """Count the rows of the dump on stdin, as `pg_restore --data-only` writes it."""
    found = count(sys.stdin.buffer)
    if not found.rows:
        raise FailedError(f"the dump of {database} holds no table")
    note_rows(shelf.partial(BackupName(name)) / WORK, database, found)
    click.echo(
        f"    {database}: {counted(sum(found.rows.values()), 'row')} in {counted(len(found.rows), 'table')}"
    )


@step("seal", f"{ANY} --keep 7 --postgres 170011 --paused-at 2026-01-02T03:04:05+00:00")
@NAME
@click.option("--keep", type=click.IntRange(min=1), required=True)
@click.option("--postgres", type=int, required=True)
@click.option("--paused-at", type=TIME, required=True)
@click.option("--include-dicom", is_flag=True)
@click.option("--service", "services", multiple=True, metavar="NAME=IMAGE")
@KEYS
@BACKUPS
def finish(
    shelf: Shelved,
    name: str,
    *,
    keep: int,
    postgres: int,
    paused_at: datetime,
    services: tuple[str, ...],
    keys: tuple[str, ...],
    include_dicom: bool,
) -> None:
    """Write the manifest, finish the backup, and remove those that are too old."""
    wanted = BackupName(name)
    begun_at = datetime.strptime(name, "clinicpacs-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    images_of = dict(service.partition("=")[::2] for service in sorted(services))
    account = Account(begun_at, paused_at, postgres, images_of, include_dicom, keys)
    manifest = seal(shelf, wanted, account)
    write_metrics(shelf, manifest)
    for old in shelf.prune(keep):
        click.echo(f"    {old} removed: {counted(keep, 'backup')} are kept")
    click.echo(
        f"    {counted(manifest.databases['catalog'].get('public.studies', 0), 'study', 'studies')}, "
        f"{megabytes(total_bytes(manifest))}"
    )
    for text in manifest.secret:
        click.echo(f"    secret: {text}")
    for text in manifest.absent:
        click.echo(f"    not inside: {text}")


STEPS = (begin, record, abandon, copy, clock, agree, rows, finish)
