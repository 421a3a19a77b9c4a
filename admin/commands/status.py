"""`clinicpacs status`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from admin.status import ClinicStatus, Status, gather
from admin.teaching import Command
from admin.terminal import FailedError, console, counted, shown, table, with_platform

if TYPE_CHECKING:
    from datetime import datetime

    from admin.platform import Platform
    from pacs.catalog.transfers import Unfinished

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@click.command(cls=Command, examples=("clinicpacs status", "clinicpacs status --json | jq .clinics"))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@with_platform
def status(platform: Platform, *, as_json: bool) -> None:
    """Show what runs, what waits and what is stuck.

    Exit code 1 when a part cannot be reached or a clinic's folder cannot be read.
    """
    found = gather(platform)
    if as_json:
        click.echo(json.dumps(asdict(found), default=lambda at: at.isoformat(), indent=2))
    else:
        _show(found, platform.now())
    troubled = [part.name for part in found.parts if not part.is_up]
    troubled += [each.id for each in found.clinics if each.fault]
    if troubled:
        raise FailedError(f"problems with: {', '.join(troubled)}")


def _show(found: Status, now: datetime) -> None:
    screen = console()
    parts = table("Parts", "part", "answers", "which")
    for part in found.parts:
        parts.add_row(part.name, "yes" if part.is_up else "NO", shown(part.told))
    screen.print(parts)
    numbers = ("studies", "waiting", "failed", "provisional", "dirty", "missing")
    clinics = table(
        "Clinics",
        *("clinic", "name", "studies", "waiting", "oldest", "failed", "last import"),
        *("provisional", "dirty", "missing"),
        right=numbers,
    )
    for clinic in found.clinics:
        clinics.add_row(*_cells(clinic, now))
    screen.print(clinics)
    for line in _notes(found):
        click.echo(shown(line))


def _cells(clinic: ClinicStatus, now: datetime) -> list[str]:
    last = clinic.last_import
    return [
        clinic.id if clinic.active else f"{clinic.id} (deactivated)",
        shown(clinic.name),
        str(clinic.studies.confirmed),
        str(clinic.waiting_files),
        "" if clinic.oldest_waiting_seconds is None else _age(clinic.oldest_waiting_seconds),
        str(clinic.failed_files),
        "never" if last is None else f"{_age((now - last).total_seconds())} ago",
        *(str(n) for n in (clinic.studies.provisional, clinic.studies.dirty, clinic.studies.missing)),
    ]


def _notes(found: Status) -> list[str]:
    notes = [f"{each.id}: {each.fault}" for each in found.clinics if each.fault]
    if not found.clinics:
        notes.append('no clinics yet: clinicpacs add-clinic northside "Northside Clinic"')
    folders = counted(found.strangers.unknown_folders, "folder")
    files = counted(found.strangers.stray_files, "file")
    if found.strangers.unknown_folders or found.strangers.stray_files:
        notes.append(f"{folders} and {files} in the inbox belong to no clinic and are left alone")
    notes += _unfinished(found.unfinished)
    failed = [each.id for each in found.clinics if each.failed_files]
    if failed:
        notes.append(
            f"failed files carry their reason beside them: see failed/{failed[0]}, then `clinicpacs retry`, "
            "`clinicpacs dismiss` or `clinicpacs conflicts`"
        )
    return notes


def _unfinished(found: Unfinished) -> list[str]:
    notes = []
    if found.transfers:
        studies = counted(len(found.transfers), "study is", "studies are")
        notes.append(f"{studies} on the way to another clinic; if that was interrupted: clinicpacs transfer")
    if found.deletions:
        studies = counted(len(found.deletions), "deleted study", "deleted studies")
        first = found.deletions[0]
        notes.append(f"{studies} may still be in the archive, go on: clinicpacs delete {first}")
    return notes


def _age(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
