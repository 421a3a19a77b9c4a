"""`clinicpacs conflicts`."""

from __future__ import annotations

import json
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from admin.commands import settling
from admin.commands.working import require_active, require_clinic, without_stored
from admin.conflict_story import describe, patients, place
from admin.conflicts import Conflict, find_conflicts, persons
from admin.correction import Correction
from admin.studies import described
from admin.teaching import Command
from admin.terminal import CLINIC, DAY, JSON, UnusableError, shown, with_platform
from pacs.catalog import clinics
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from admin.platform import Platform
    from pacs.ids import ClinicId


_HELP = {
    "dismiss": "Acknowledge conflict NAME; its files stay.",
    "retry": "Put the files of conflict NAME back into the inbox.",
    "correct-patient-id": "Import the files of conflict NAME under the Patient ID that their study has.",
    "share": "Let the clinic of conflict NAME read the owner's study, to the end of --until.",
    "transfer": "Make the study the clinic's of conflict NAME, and import its files.",
    "copy": "Import the files of conflict NAME as a copy, under new UIDs.",
    "reject": "Dismiss the files of conflict NAME, with a --reason on record.",
}


def _ways(function: Callable[..., None]) -> Callable[..., None]:
    """One option for each way to settle a conflict; they arrive as a mapping of those that were given."""

    @wraps(function)
    def command(**given: Any) -> None:
        ways = {way: given.pop(way.replace("-", "_")) for way in _HELP}
        function(ways={way: name for way, name in ways.items() if name is not None}, **given)

    for way, text in reversed(_HELP.items()):
        command = click.option(f"--{way}", metavar="NAME", help=text)(command)
    return command


@click.command(
    cls=Command,
    examples=(
        "clinicpacs conflicts",
        "clinicpacs conflicts northside",
        "clinicpacs conflicts --json | jq 'select(.stands).name'",
        "clinicpacs conflicts --share 3f9a1c0d --until 2031-12-31",
        "clinicpacs conflicts --transfer 3f9a1c0d",
        "clinicpacs conflicts --copy 3f9a1c0d",
        'clinicpacs conflicts --reject 3f9a1c0d --reason "dropped into the wrong inbox"',
        "clinicpacs conflicts --correct-patient-id 3f9a1c0d",
        "clinicpacs conflicts --retry 3f9a1c0d",
        "clinicpacs conflicts --dismiss 3f9a1c0d",
    ),
)
@click.argument("clinic_id", metavar="[CLINIC]", type=CLINIC, required=False)
@_ways
@click.option("--until", metavar="DAY", type=DAY, help="With --share: the last day, as 2026-12-31.")
@click.option("--reason", metavar="TEXT", help="With --reject: why, for the audit trail.")
@click.option("--force", is_flag=True, help="With --retry: also what was stored since.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
@with_platform
def conflicts(
    platform: Platform,
    *,
    clinic_id: ClinicId | None,
    ways: dict[str, str],
    until: date | None,
    reason: str | None,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """List files that clash with a study or series that is there already, and settle them.

    Files clash when another clinic has sent the study or series first, when they bear another Patient ID than
    the rest of their study, when their series is part of another study, or when the archive has the study and
    the catalog no owner for it. None of them has reached the archive. Every conflict is told with its name,
    its owner and what can be done; the name stays the same whatever else is settled. Each way says what it
    will do, and asks. See also `clinicpacs share` and `clinicpacs transfer`.
    """
    if len(ways) > 1:
        raise click.UsageError(f"use only one of {', '.join(f'--{way}' for way in _HELP)}")
    if (until is None) == ("share" in ways):
        raise click.UsageError("--share and --until go together")
    if bool(reason and reason.strip()) != ("reject" in ways):
        raise click.UsageError("--reject and --reason go together")
    if as_json and ways:
        raise click.UsageError("--json is for the list only")
    if clinic_id is not None:
        require_clinic(platform, clinic_id)
    names, found = _find(platform)
    for way, name in ways.items():
        _settle(platform, _named(found, name), way, until=until, reason=reason, force=force, yes=yes)
    wanted = [each for each in found if not ways and clinic_id in {None, each.clinic_id}]
    if as_json:
        for each in wanted:
            click.echo(json.dumps(_as_json(each), default=sorted))
    elif not ways:
        _list(wanted, names)


def _settle(
    platform: Platform,
    conflict: Conflict,
    way: str,
    *,
    until: date | None,
    reason: str | None,
    force: bool,
    yes: bool,
) -> None:
    match way:
        case "dismiss":
            settling.dismiss_files(platform, conflict)
        case "retry":
            _retry(platform, conflict, force=force)
        case "correct-patient-id":
            _correct(platform, conflict, yes=yes)
        case "transfer":
            settling.transfer(platform, conflict, yes=yes)
        case "copy":
            settling.copy(platform, conflict, yes=yes)
        case "share" if until is not None:
            settling.share(platform, conflict, until, yes=yes)
        case "reject" if reason is not None:
            settling.reject(platform, conflict, reason, yes=yes)
        case _:
            raise NotImplementedError(way)


def _find(platform: Platform) -> tuple[dict[ClinicId, str], list[Conflict]]:
    with platform.catalog.read() as connection:
        names = {clinic.id: clinic.name for clinic in clinics.all_clinics(connection)}
        return names, list(find_conflicts(connection, platform.settings.failed_path, sorted(names)))


def _named(found: list[Conflict], name: str) -> Conflict:
    conflicts = [each for each in found if each.name == name.strip().lower()]
    if not conflicts:
        raise UnusableError(f"there is no conflict {name}: see `clinicpacs conflicts`")
    if len(conflicts) > 1:
        raise UnusableError(f"several conflicts have the name {name}: see `clinicpacs retry` and `dismiss`")
    return conflicts[0]


def _as_json(conflict: Conflict) -> dict[str, Any]:
    registered = conflict.registered
    return vars(conflict) | {
        "files": [place(file) for file in conflict.files],
        "registered": registered and registered._asdict(),
    }


def _list(found: list[Conflict], names: dict[ClinicId, str]) -> None:
    if not found:
        click.echo("no conflicts")
    for conflict in found:
        heading, *lines = describe(conflict, names)
        click.echo(shown(heading))
        for line in lines:
            click.echo(f"   {shown(line)}")
        click.echo()


def _retry(platform: Platform, conflict: Conflict, *, force: bool) -> None:
    require_active(platform, conflict.clinic_id)
    # Of a study without an owner the archive knows more than the catalog: it is asked again.
    if conflict.stands and conflict.refusal is not Refusal.STUDY_OWNERLESS:
        raise UnusableError(f"conflict {conflict.name} stands: its files would be refused again")
    files = conflict.files if force else without_stored(platform, conflict.files)
    settling.put_files_back(platform, conflict, files)


def _correct(platform: Platform, conflict: Conflict, *, yes: bool) -> None:
    require_active(platform, conflict.clinic_id)
    registered = conflict.registered
    if conflict.refusal is not Refusal.PATIENT_ID_DIFFERS:
        raise UnusableError(f"conflict {conflict.name} is not about a Patient ID, but {conflict.refusal}")
    if registered is None or conflict.owner != conflict.clinic_id:
        raise UnusableError(f"the study of conflict {conflict.name} is not {conflict.clinic_id}'s any more")
    if not registered.patient_id:
        raise UnusableError(
            f"the study of conflict {conflict.name} has no Patient ID that files could be given"
        )
    bearers = persons(platform.settings.failed_path, conflict.files)
    for line in (*patients(conflict), *(f"The files name {described(each)}." for each in bearers)):
        click.echo(shown(line))
    if not yes:
        click.confirm(
            f"Is this the same person, so that all are to be imported as {registered.patient_id!r}?",
            abort=True,
        )
    correction = Correction(registered.patient_id, platform.now().astimezone())
    settling.replace_files(
        platform, conflict, correction, action="correct-patient-id", done="corrected in the inbox"
    )
