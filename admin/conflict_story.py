"""A conflict in words that a clinic's staff understand, with what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.terminal import counted
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from admin.conflicts import Conflict, Person
    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId

_SHOWN_FILES = 3
_SETTLED = "What was in the way is gone."


def told(conflict: Conflict, names: Mapping[ClinicId, str]) -> list[str]:
    """A heading, then lines to stand below it."""
    return [
        f"{conflict.number}. {conflict.clinic_id}: {conflict.refusal}",
        *_story(conflict, names),
        *_places(conflict.files),
        *_remedies(conflict),
    ]


def described(person: Person) -> str:
    """A person in one line."""
    who = ", ".join(filter(None, (person.name, person.birth_date and f"born {person.birth_date}")))
    return f"{person.patient_id!r}{f' ({who})' if who else ''}"


def _story(conflict: Conflict, names: Mapping[ClinicId, str]) -> list[str]:
    files = counted(len(conflict.files), "file")
    owner = f"{names.get(conflict.owner, '')} ({conflict.owner})" if conflict.owner else "nobody"
    study, series = f"study {conflict.study_uid}", f"series {conflict.series_uid}"
    match conflict.refusal:
        case Refusal.STUDY_OWNED:
            lines = [f"{files} of {study}.", f"The study belongs to {owner}, who sent it first."]
        case Refusal.SERIES_OWNED:
            lines = [
                f"{files} of {series} in {study}.",
                f"The series belongs to {owner}, who sent it first in study {conflict.other_study_uid}.",
            ]
        case Refusal.PATIENT_ID_DIFFERS:
            lines = [f"{files} of {study}, which belongs to {owner}.", *patients(conflict)]
        case Refusal.SERIES_IN_ANOTHER_STUDY:
            lines = [
                f"{files} of {series} in {study}.",
                f"The same clinic has sent this series in study {conflict.other_study_uid}.",
            ]
    return lines if conflict.stands else [lines[0], _SETTLED]


def patients(conflict: Conflict) -> list[str]:
    """Whose images the files are by their Patient ID, and whose the study."""
    lines = [f"The files say Patient ID {', '.join(map(repr, sorted(conflict.patient_ids))) or 'unknown'}."]
    registered = conflict.registered
    if registered is not None:
        lines.append(f"The study is registered under {described(registered)}.")
    return lines


def _places(files: tuple[FailedFile, ...]) -> list[str]:
    lines = [f"failed/{file.clinic_id}/{file.day}/{file.path}" for file in files[:_SHOWN_FILES]]
    more = len(files) - len(lines)
    return [*lines, *([f"... and {counted(more, 'more file', 'more files')}"] if more else [])]


def _remedies(conflict: Conflict) -> list[str]:
    number = conflict.number
    dismiss_it = f"clinicpacs conflicts --dismiss {number}"
    if not conflict.stands:
        return [f"Import them now: clinicpacs conflicts --retry {number}", f"Or let them be: {dismiss_it}"]
    match conflict.refusal:
        case Refusal.STUDY_OWNED | Refusal.SERIES_OWNED:
            return [
                f"Dropped into the wrong inbox, or already at the other clinic: {dismiss_it}",
                "Needed at both, or here instead: this version can neither share a study nor hand it over.",
            ]
        case Refusal.PATIENT_ID_DIFFERS:
            return [
                f"The same person: clinicpacs conflicts --correct-patient-id {number}",
                f"Another person: have the device send it as a study of its own. Then: {dismiss_it}",
            ]
        case Refusal.SERIES_IN_ANOTHER_STUDY:
            return [f"Have the device send the series anew, under a number of its own. Then: {dismiss_it}"]
