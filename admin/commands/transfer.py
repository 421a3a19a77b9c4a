"""`clinicpacs transfer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.retagging import StudyGoneError, TransferError
from admin.teaching import Command
from admin.terminal import (
    CLINIC,
    UID,
    FailedError,
    UnusableError,
    counted,
    progress_bar,
    shown,
    with_platform,
)
from admin.transfer import begin, go_on
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import CatalogUnavailableError, transfers

if TYPE_CHECKING:
    from admin.platform import Platform
    from admin.transfer import Begun
    from pacs.catalog.transfers import Transfer
    from pacs.ids import ClinicId, Uid


@click.command(
    cls=Command,
    examples=(
        "clinicpacs transfer 1.2.840.99.7 --to southside",
        "clinicpacs transfer 1.2.840.99.7   # go on with one that was interrupted",
        "clinicpacs transfer   # go on with all that were interrupted",
    ),
)
@click.argument("study_uid", metavar="[STUDY_UID]", type=UID, required=False)
@click.option("--to", "to_clinic", metavar="CLINIC", type=CLINIC, help="The new owner.")
@with_platform
def transfer(platform: Platform, study_uid: Uid | None, to_clinic: ClinicId | None) -> None:
    """Transfer a study to another clinic, for good. The services may go on running.

    Its old owner loses it first and at once, and with it everybody with whom it was shared. Then all of its
    images are tagged for the new owner, one by one, as at an import. If that is interrupted, run this again:
    until all are tagged, new files of the study wait in the new owner's inbox.

    The files in the old owner's folder of processed stay where they are.
    """
    if to_clinic is not None:
        if study_uid is None:
            raise click.UsageError("--to needs a STUDY_UID")
        begun = begin_transfer(platform, study_uid, to_clinic)
        if begun:
            finish(platform, begun)
        return
    with platform.catalog.read() as connection:
        found = [each for each in transfers.under_way(connection) if study_uid in {None, each.study_uid}]
    if not found and study_uid is not None:
        raise UnusableError(f"no transfer of study {study_uid} is under way: name the new owner by --to")
    if not found:
        click.echo("no transfer is under way")
    for each in found:
        finish(platform, each)


def begin_transfer(platform: Platform, study_uid: Uid, to_clinic: ClinicId) -> Transfer | None:
    """Make the study another clinic's, telling so; returns what is left to `finish`, if anything is."""
    begun = begin(platform, study_uid, to_clinic)
    if begun is None:
        click.echo(f"study {study_uid} is {to_clinic}'s already")
        return None
    _tell(begun)
    return begun.transfer


def _tell(begun: Begun) -> None:
    one = begun.transfer
    click.echo(f"study {one.study_uid} is {one.to_clinic}'s now, and no longer {one.from_clinic}'s")
    for each in begun.ended:
        click.echo(f"  it is no longer shared with {each.clinic_id}")


def finish(platform: Platform, one: Transfer) -> None:
    """Tag the images; exit 1 with what to do when that does not come to its end."""
    try:
        with progress_bar() as bar:
            task = bar.add_task("images", total=None)
            tagged = go_on(platform, one, lambda count: bar.advance(task, count))
    except StudyGoneError as error:
        raise FailedError(str(error)) from error
    except (TransferError, ArchiveUnavailableError, CatalogUnavailableError, OSError) as error:
        told = f"{error.strerror}" if isinstance(error, OSError) else str(error)
        for line in told.splitlines():
            click.echo(shown(line), err=True)
        raise FailedError(
            f"study {one.study_uid} belongs to {one.to_clinic} now, but some images are not retagged yet and "
            f"its new files wait; to continue: clinicpacs transfer {one.study_uid}"
        ) from error
    click.echo(f"{counted(tagged, 'image')} of study {one.study_uid} tagged for {one.to_clinic}")
