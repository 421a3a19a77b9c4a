"""`clinicpacs conflicts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.commands.working import require_active, require_clinic, without_stored, work
from admin.conflict_story import described, patients, told
from admin.conflicts import Conflict, find_conflicts, persons
from admin.correction import Correction
from admin.teaching import Command
from admin.terminal import CLINIC, UnusableError, shown, with_platform
from importer.files.failed import dismiss, put_back
from pacs.catalog import clinics
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from admin.platform import Platform
    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId


@click.command(
    cls=Command,
    examples=(
        "clinicpacs conflicts",
        "clinicpacs conflicts northside",
        "clinicpacs conflicts --dismiss 2",
        "clinicpacs conflicts --retry 2",
        "clinicpacs conflicts --correct-patient-id 1",
    ),
)
@click.argument("clinic_id", metavar="[CLINIC]", type=CLINIC, required=False)
@click.option("--dismiss", "dismissed", metavar="N", type=int, help="Acknowledge conflict N; its files stay.")
@click.option(
    "--retry", "retried", metavar="N", type=int, help="Put the files of conflict N back into the inbox."
)
@click.option(
    "--correct-patient-id",
    "corrected",
    metavar="N",
    type=int,
    help="Import the files of conflict N under the Patient ID that their study has.",
)
@click.option("--force", is_flag=True, help="With --retry: also what was stored since.")
@click.option("--yes", is_flag=True, help="With --correct-patient-id: do not ask.")
@with_platform
def conflicts(
    platform: Platform,
    clinic_id: ClinicId | None,
    dismissed: int | None,
    retried: int | None,
    corrected: int | None,
    *,
    force: bool,
    yes: bool,
) -> None:
    """List files that clash with a study or series that is there already, and settle them.

    Files clash when another clinic has sent the study or series first, when they bear another Patient ID than
    the rest of their study, or when their series is part of another study. None of them has reached the
    archive. Every conflict is told with its owner and what can be done.

    Sharing a study with a second clinic, and handing it over to another one, are not part of this version.
    """
    if sum(number is not None for number in (dismissed, retried, corrected)) > 1:
        raise click.UsageError("one of --dismiss, --retry and --correct-patient-id at a time")
    if clinic_id is not None:
        require_clinic(platform, clinic_id)
    names, found = _find(platform)
    if dismissed is not None:
        _dismiss(platform, _numbered(found, dismissed))
    elif retried is not None:
        _retry(platform, _numbered(found, retried), force=force)
    elif corrected is not None:
        _correct(platform, _numbered(found, corrected), yes=yes)
    else:
        _list([each for each in found if clinic_id in {None, each.clinic_id}], names)


def _find(platform: Platform) -> tuple[dict[ClinicId, str], list[Conflict]]:
    with platform.catalog.read() as connection:
        names = {clinic.id: clinic.name for clinic in clinics.all_clinics(connection)}
        return names, list(find_conflicts(connection, platform.settings.failed_path, sorted(names)))


def _numbered(found: list[Conflict], number: int) -> Conflict:
    for conflict in found:
        if conflict.number == number:
            return conflict
    raise UnusableError(f"there is no conflict {number}: see `clinicpacs conflicts`")


def _list(found: list[Conflict], names: dict[ClinicId, str]) -> None:
    if not found:
        click.echo("no conflicts")
    for conflict in found:
        heading, *lines = told(conflict, names)
        click.echo(shown(heading))
        for line in lines:
            click.echo(f"   {shown(line)}")
        click.echo()


def _dismiss(platform: Platform, conflict: Conflict) -> None:
    work(
        platform,
        list(conflict.files),
        lambda file: dismiss(platform.settings.failed_path, file, platform.now()),
        action="dismiss-conflict",
        done="dismissed",
        study_uid=conflict.study_uid,
    )


def _retry(platform: Platform, conflict: Conflict, *, force: bool) -> None:
    require_active(platform, conflict.clinic_id)
    if conflict.stands:
        raise UnusableError(f"conflict {conflict.number} stands: its files would be refused again")
    settings = platform.settings
    files = list(conflict.files) if force else without_stored(platform, conflict.files)
    work(
        platform,
        files,
        lambda file: put_back(settings.failed_path, settings.inbox_path, file),
        action="retry-conflict",
        done="put back",
        study_uid=conflict.study_uid,
    )


def _correct(platform: Platform, conflict: Conflict, *, yes: bool) -> None:
    require_active(platform, conflict.clinic_id)
    registered = conflict.registered
    if conflict.refusal is not Refusal.PATIENT_ID_DIFFERS:
        raise UnusableError(f"conflict {conflict.number} is not about a Patient ID, but {conflict.refusal}")
    if registered is None or conflict.owner != conflict.clinic_id:
        raise UnusableError(f"the study of conflict {conflict.number} is not {conflict.clinic_id}'s any more")
    bearers = persons(platform.settings.failed_path, conflict.files)
    for line in (*patients(conflict), *(f"The files name {described(each)}." for each in bearers)):
        click.echo(shown(line))
    if not yes:
        click.confirm(
            f"Is this the same person, so that all are to be imported as {registered.patient_id!r}?",
            abort=True,
        )
    settings = platform.settings
    correction = Correction(
        settings.failed_path, settings.inbox_path, registered.patient_id, platform.now().astimezone()
    )

    def correct(file: FailedFile) -> None:
        correction.apply(file)
        dismiss(settings.failed_path, file, platform.now())

    work(
        platform,
        list(conflict.files),
        correct,
        action="correct-patient-id",
        done="corrected in the inbox",
        study_uid=conflict.study_uid,
    )
