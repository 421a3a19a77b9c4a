"""`clinicpacs refile`."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from admin.backup.refile import Refiler, filed_since
from admin.commands.backup_steps import progress
from admin.processed import clinic_folders
from admin.teaching import Command
from admin.terminal import TIME, FailedError, UnusableError, counted, with_platform
from importer.files.moving import MoveError
from importer.inbox.advisory import AdvisoryLocks
from importer.inbox.locks import InboxLock, InboxLockedError
from pacs.catalog import clinics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from admin.platform import Platform
    from pacs.ids import ClinicId


@click.command(
    cls=Command,
    examples=(
        "clinicpacs refile --since 2026-01-02T03:04:05+00:00 --dry-run",
        "clinicpacs refile --since 2026-01-02T03:04:05+00:00",
    ),
)
@click.option("--since", type=TIME, required=True, help="When the backup was made, with the time zone.")
@click.option("--dry-run", is_flag=True, help="Only say how many files there are.")
@with_platform
def refile(platform: Platform, since: datetime, *, dry_run: bool) -> None:
    """Put files that were stored since a backup back into the inbox, to be imported anew.

    For after a restore; `make restore` does it. They come from processed, in the order in which they were
    filed, so that of several versions of one image the last one is stored last. The importer must not run.
    Safe to run again, after an interruption, too.
    """
    processed = platform.settings.processed_path
    wanted = clinic_folders(processed)
    with platform.catalog.read() as connection:
        known = {clinic.id: clinic.active for clinic in clinics.all_clinics(connection)}
    if dry_run:
        for clinic_id in wanted:
            files = filed_since(processed, clinic_id, since)
            if files:
                click.echo(f"{clinic_id}: {counted(len(files), 'file')} would be put back")
        return
    with _nobody_imports(platform, [clinic_id for clinic_id, active in known.items() if active]):
        done = _put_back(platform, since, wanted)
    click.echo(f"{counted(sum(done.values()), 'file')} put back into the inbox")
    _tell_strangers(done, known)


def _put_back(platform: Platform, since: datetime, wanted: list[ClinicId]) -> dict[ClinicId, int]:
    settings = platform.settings
    done: dict[ClinicId, int] = {}
    refiler = Refiler(settings.processed_path, settings.inbox_path, since, progress("files put back"))
    refiler.begin()
    for clinic_id in wanted:
        count = len(filed_since(settings.processed_path, clinic_id, since))
        change = platform.recorded("refile", clinic_id=clinic_id, detail=f"since {since}", count=count)
        try:
            # What waited comes behind what a run that was interrupted has put back, too.
            with change if count else nullcontext():
                put_back, refused = refiler.refile(clinic_id)
        except MoveError:
            raise FailedError(f"{clinic_id}: somebody changes files in processed: run it again") from None
        if count:
            done[clinic_id] = put_back
            click.echo(f"{clinic_id}: {counted(put_back, 'file')} put back")
        if refused:
            click.echo(
                f"warning: {clinic_id}: {counted(refused, 'file')} that waited could not be put behind them; "
                "if one is a newer version of a file that was put back, drop it again",
                err=True,
            )
    refiler.finish()
    return done


def _tell_strangers(done: dict[ClinicId, int], known: dict[ClinicId, bool]) -> None:
    """Files of clinics that nobody serves wait, and somebody has to know."""
    strange = [clinic_id for clinic_id in done if not known.get(clinic_id)]
    for clinic_id in strange:
        state = (
            "is deactivated" if clinic_id in known else "is not in the catalog: it was added after the backup"
        )
        click.echo(
            f"warning: {clinic_id} {state}; its {counted(done[clinic_id], 'file')} wait in the inbox until "
            f"`clinicpacs add-clinic {clinic_id} NAME` is run",
            err=True,
        )


@contextmanager
def _nobody_imports(platform: Platform, served: list[ClinicId]) -> Iterator[None]:
    """Hold what importers hold; exit 2 when one runs."""
    if platform.catalog.is_sqlite:
        platform.settings.inbox_path.mkdir(parents=True, exist_ok=True)
        try:
            lock = InboxLock(platform.settings.inbox_path)
        except InboxLockedError:
            raise UnusableError(_RUNNING) from None
        try:
            yield
        finally:
            lock.close()
        return
    locks = AdvisoryLocks(platform.catalog)
    try:
        if locks.hold(served, lambda _clinic_id: True) != set(served):
            raise UnusableError(_RUNNING)
        yield
    finally:
        locks.close()


_RUNNING = "the importer runs: stop it first, or older versions of an image could be stored after newer ones"
