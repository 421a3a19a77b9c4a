"""Working through failed files at a terminal: what `retry`, `dismiss` and `conflicts` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.directory import UnknownClinicError
from admin.failed_files import each
from admin.terminal import FailedError, UnusableError, counted, shown
from importer.files.failed import stored_since
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import clinics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from admin.platform import Platform
    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId, Uid


def require_clinic(platform: Platform, clinic_id: ClinicId) -> clinics.Clinic:
    """The clinic; exit 2 when the catalog has none of that id."""
    with platform.catalog.read() as connection:
        clinic = clinics.find(connection, clinic_id)
    if clinic is None:
        raise UnknownClinicError(clinic_id)
    return clinic


def require_active(platform: Platform, clinic_id: ClinicId) -> None:
    """Exit 2 when nobody would import what is put into the clinic's inbox."""
    if not require_clinic(platform, clinic_id).active:
        raise UnusableError(f"{clinic_id} is deactivated: nobody would import what is put back")


def without_stored(platform: Platform, files: Iterable[FailedFile]) -> list[FailedFile]:
    """Those of which the archive has no image under the same SOP Instance UID; the others are told."""
    return [file for file in files if not _is_stored(platform, file)]


def _is_stored(platform: Platform, file: FailedFile) -> bool:
    try:
        stored = stored_since(platform.archive, file)
    except ArchiveUnavailableError as error:
        raise UnusableError(
            f"the archive did not say which images it already has ({error.reason}): nothing was put back; "
            "--force skips this check"
        ) from error
    if stored:
        why = "--force puts it back, `clinicpacs dismiss` acknowledges it"
        click.echo(shown(f"{_place(file)}: its image was stored since; left in failed ({why})"))
    return stored


def work(
    platform: Platform,
    files: list[FailedFile],
    do: Callable[[FailedFile], object],
    *,
    action: str,
    done: str,
    study_uid: Uid | None = None,
    detail: str = "",
) -> None:
    """Do something to every file of one clinic, audited and told file by file; exit 1 if one did not work."""
    if not files:
        click.echo("nothing to do")
        return
    clinic_id = files[0].clinic_id
    with platform.recorded(action, clinic_id=clinic_id, study_uid=study_uid, detail=detail, count=len(files)):
        results = list(each(files, do))
    for file, fault in results:
        click.echo(shown(f"{_place(file)}: {fault or done}"), err=fault is not None)
    faults = sum(fault is not None for _, fault in results)
    click.echo(f"{counted(len(results) - faults, 'file')} {done}")
    if faults:
        with platform.catalog.write() as connection:
            platform.record(
                connection,
                action,
                clinic_id=clinic_id,
                study_uid=study_uid,
                detail=f"{detail} (of these, not {done})".strip(),
                count=faults,
                allowed=False,
            )
        raise FailedError(f"{counted(faults, 'file')} not {done}")


def _place(file: FailedFile) -> str:
    return f"{file.day}/{file.path}"
