"""`clinicpacs verify`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from admin.commands.working import require_clinic
from admin.processed import clinic_folders
from admin.teaching import Command
from admin.terminal import CLINIC, DAY, JSON, FailedError, counted, progress_bar, shown, with_platform
from admin.verifying.outcome import ALARMS, Outcome
from admin.verifying.verifier import Verifier
from pacs.catalog import clinics, verifications
from pacs.catalog.verifications import Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from admin.platform import Platform
    from admin.verifying.outcome import Verdict
    from pacs.ids import ClinicId

TOLD = {
    Outcome.MISSING: "missing",
    Outcome.DIFFERENT: "different",
    Outcome.SUPERSEDED: "superseded",
    Outcome.SKIPPED: "skipped",
    Outcome.DELETED: "of deleted studies",
}
"""What is listed file by file, and what it is called in a sum."""


@click.command(
    cls=Command,
    examples=(
        "clinicpacs verify",
        "clinicpacs verify northside --since 2026-01-02",
        "clinicpacs verify --json | jq 'select(.outcome == \"missing\")'",
    ),
)
@click.argument("clinic_id", metavar="[CLINIC]", type=CLINIC, required=False)
@click.option("--since", type=DAY, help="Only what was filed on this day or later; alerts do not count it.")
@JSON
@with_platform
def verify(platform: Platform, clinic_id: ClinicId | None, since: date | None, *, as_json: bool) -> None:
    """Compare every file in processed with what the archive has of it, byte for byte.

    The services may go on running. Each file that is missing in the archive or different there is listed, and
    apart from them what is no fault: superseded files (a newer one of the same image was filed after them),
    skipped ones (they hold no image), and those of deleted studies.

    Exit code 1 when something is missing or different; 2 when it could not be found out.
    """
    verifier = Verifier(platform)
    verifier.require_archive()
    day = since.isoformat() if since else ""
    faults = 0
    for each in _chosen(platform, clinic_id):
        sums: Counter[Outcome] = Counter()
        with progress(each) as tell:
            for verdict in verifier.clinic(each, day, tell):
                sums[verdict.outcome] += 1
                tell_of(verdict, as_json=as_json)
        if sums[Outcome.MISSING]:
            # Nothing is recorded as missing in what is no archive any more.
            verifier.require_archive()
        _finish(platform, each, sums, partly=bool(day), as_json=as_json)
        faults += sum(sums[alarm] for alarm in ALARMS)
    if faults:
        raise FailedError(lacking(faults))


def lacking(faults: int) -> str:
    """The sum of what is wrong."""
    verb = "is" if faults == 1 else "are"
    return f"{counted(faults, 'file')} {verb} missing from the archive or different in it"


def _chosen(platform: Platform, clinic_id: ClinicId | None) -> list[ClinicId]:
    """The clinic, or all that the catalog or processed has."""
    folders = clinic_folders(platform.settings.processed_path)
    if clinic_id is not None:
        if clinic_id not in folders:
            require_clinic(platform, clinic_id)
        return [clinic_id]
    with platform.catalog.read() as connection:
        return sorted({*folders, *(clinic.id for clinic in clinics.all_clinics(connection))})


@contextmanager
def progress(clinic_id: ClinicId) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; what it gives is told how many files are done, and of how many."""
    # What is listed goes where stdout goes, also when only stderr is a terminal.
    with progress_bar(redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(clinic_id, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def tell_of(verdict: Verdict, *, as_json: bool) -> None:
    """List a file, unless all is well with it."""
    if verdict.outcome not in TOLD:
        return
    place = verdict.place
    if as_json:
        told = {
            "outcome": verdict.outcome,
            "clinic": place.clinic_id,
            "day": place.day,
            "path": place.path,
            "detail": verdict.detail,
            "study_uid": verdict.study_uid,
            "sop_instance_uid": verdict.sop_instance_uid,
        }
        click.echo(json.dumps(told))
    else:
        detail = f": {verdict.detail}" if verdict.detail else ""
        click.echo(shown(f"{verdict.outcome:<10}  {place}{detail}"))


def _finish(
    platform: Platform, clinic_id: ClinicId, sums: Counter[Outcome], *, partly: bool, as_json: bool
) -> None:
    missing, different = sums[Outcome.MISSING], sums[Outcome.DIFFERENT]
    files = sums[Outcome.VERIFIED] + missing + different
    recorded = _record(
        platform, Verification(clinic_id, platform.now(), files, missing, different), partly=partly
    )
    if as_json:
        counts = {str(outcome): sums[outcome] for outcome in (Outcome.VERIFIED, *TOLD)}
        click.echo(json.dumps({"clinic": clinic_id, "files": files, **counts, "recorded": recorded}))
        return
    parts = [f"{sums[outcome]} {name}" for outcome, name in TOLD.items() if sums[outcome]]
    verified = f"{counted(sums[Outcome.VERIFIED], 'file')} verified"
    click.echo(f"{clinic_id}: {', '.join((verified, *parts))}")


def _record(platform: Platform, found: Verification, *, partly: bool) -> bool:
    """Keep it for the metrics; of a part only what is worse than is known, and never as a whole one."""
    with platform.catalog.write() as connection:
        if clinics.find(connection, found.clinic_id) is None:
            return False
        if partly:
            before = {each.clinic_id: each for each in verifications.last(connection)}.get(found.clinic_id)
            if found.faults <= (before.faults if before else 0):
                return False
            if before:
                found = replace(found, finished_at=before.finished_at)
        verifications.record(connection, found)
        return True
