"""`clinicpacs retry` and `dismiss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.commands.working import require_active, require_clinic, without_stored, work
from admin.failed_files import NoSuchFailedFileError, choose
from admin.teaching import Command
from admin.terminal import CLINIC, UnusableError, counted, shown, with_platform
from importer.files.failed import dismiss as dismiss_file
from importer.files.failed import put_back

if TYPE_CHECKING:
    from admin.platform import Platform
    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId

_PATHS = "FOLDER_OR_FILE"


@click.command(
    cls=Command,
    examples=(
        "clinicpacs retry northside",
        "clinicpacs retry northside study-17",
        "clinicpacs retry northside data/failed/northside/2026-01-02/study-17/image-3.dcm",
        "clinicpacs retry northside study-17 --force",
    ),
)
@click.argument("clinic_id", metavar="CLINIC", type=CLINIC)
@click.argument("paths", metavar=f"[{_PATHS}]...", nargs=-1)
@click.option("--force", is_flag=True, help="Also what was stored since; it replaces what the archive has.")
@with_platform
def retry(platform: Platform, clinic_id: ClinicId, paths: tuple[str, ...], *, force: bool) -> None:
    """Put failed files back into the inbox, where the importer takes them up again.

    Without a path: all files of the clinic that nobody has dismissed. A path is that of a file or a folder,
    as it was in the inbox or as it lies in the failed folder.

    A file whose image was stored since, under the same SOP Instance UID, is left where it is.
    """
    require_active(platform, clinic_id)
    files = _chosen(platform, clinic_id, paths)
    settings = platform.settings
    work(
        platform,
        files if force else without_stored(platform, files),
        lambda file: put_back(settings.failed_path, settings.inbox_path, file),
        action="retry",
        done="put back",
    )


@click.command(
    cls=Command,
    examples=(
        "clinicpacs dismiss northside study-17/notes.txt",
        "clinicpacs dismiss northside",
        "clinicpacs dismiss northside --yes",
    ),
)
@click.argument("clinic_id", metavar="CLINIC", type=CLINIC)
@click.argument("paths", metavar=f"[{_PATHS}]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_platform
def dismiss(platform: Platform, clinic_id: ClinicId, paths: tuple[str, ...], *, yes: bool) -> None:
    """Acknowledge failed files: they stay where they are and no longer call for attention.

    Without a path: all failed files of the clinic; it asks. `clinicpacs retry` with a path brings dismissed
    ones back.
    """
    require_clinic(platform, clinic_id)
    files = [file for file in _chosen(platform, clinic_id, paths) if not file.dismissed]
    if files and not paths and not yes:
        number = counted(len(files), "failed file")
        click.confirm(f"Dismiss all of {clinic_id}, {number}? Nobody will see them any more.", abort=True)
    work(
        platform,
        files,
        lambda file: dismiss_file(platform.settings.failed_path, file, platform.now()),
        action="dismiss",
        done="dismissed",
    )


def _chosen(platform: Platform, clinic_id: ClinicId, paths: tuple[str, ...]) -> list[FailedFile]:
    try:
        return choose(platform.settings.failed_path, clinic_id, paths)
    except NoSuchFailedFileError as error:
        raise UnusableError(shown(str(error))) from error
