"""`clinicpacs delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.deletion import bury, remove, require_deletable
from admin.studies import described, owned, patient
from admin.teaching import Command
from admin.terminal import UID, FailedError, shown, with_platform
from pacs.archive import ArchiveUnavailableError

if TYPE_CHECKING:
    from admin.platform import Platform
    from pacs.catalog.transfers import OwnedStudy
    from pacs.ids import Uid


@click.command(
    cls=Command, examples=("clinicpacs delete 1.2.840.99.7", "clinicpacs delete 1.2.840.99.7 --yes")
)
@click.argument("study_uid", metavar="STUDY_UID", type=UID)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_platform
def delete(platform: Platform, study_uid: Uid, *, yes: bool) -> None:
    """Delete a study from the archive and from every list. The services may go on running.

    First it vanishes for everyone, then the archive removes its images. If that is interrupted, run this
    again: until it is done, new files of the study wait in its owner's inbox. A transfer of the study that is
    under way ends. Files in the folder of processed stay where they are.

    The study's UID stays its owner's: another clinic's files of it are refused, and when its owner sends it
    again, it is a study like any other.
    """
    with platform.catalog.read() as connection:
        study = owned(connection, study_uid)
        person = patient(connection, study_uid)
    if study.state != "deleted":
        require_deletable(study)
        whose = f" with Patient ID {described(person)}" if person else ""
        click.echo(shown(f"Study {study_uid} of {study.owner}{whose}."))
        if not yes:
            click.confirm("Delete it from the archive, for good?", abort=True)
        bury(platform, study_uid)
        click.echo(f"study {study_uid} is in no list any more")
    elif not study.is_being_removed and platform.archive.study(study_uid) is None:
        click.echo(f"study {study_uid} was deleted before")
        return
    _remove(platform, study)


def _remove(platform: Platform, study: OwnedStudy) -> None:
    try:
        remove(platform, study.study_uid)
    except ArchiveUnavailableError as error:
        login = " (is ARCHIVE_ADMIN_PASSWORD set?)" if error.reason in {"status-401", "status-403"} else ""
        raise FailedError(
            f"{error}{login}. Nobody sees the study, but its images are still there: "
            f"clinicpacs delete {study.study_uid}"
        ) from error
    click.echo(
        f"study {study.study_uid} is deleted from the archive; the files that brought it stay in the folder "
        f"of processed of {study.owner}"
    )
