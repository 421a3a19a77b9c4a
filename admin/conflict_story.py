"""A conflict in words that a clinic's staff understand, with what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.studies import described
from admin.terminal import counted
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from admin.conflicts import Conflict
    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId

_SHOWN_FILES = 3
_SETTLED = "What was in the way is gone."


def describe(conflict: Conflict, names: Mapping[ClinicId, str]) -> list[str]:
    """A heading, then lines to stand below it."""
    return [
        f"{conflict.name} {conflict.clinic_id}: {conflict.refusal}",
        *_story(conflict, names),
        *_places(conflict.files),
        *_remedies(conflict),
    ]


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
        case Refusal.STUDY_OWNERLESS:
            lines = [
                f"{files} of {study}.",
                "The archive has images of it that are not all this clinic's, and the catalog has no owner.",
            ]
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


def place(file: FailedFile) -> str:
    """Where it lies, below DATA_PATH."""
    return f"failed/{file.clinic_id}/{file.day}/{file.path}"


def _places(files: tuple[FailedFile, ...]) -> list[str]:
    lines = [place(file) for file in files[:_SHOWN_FILES]]
    more = len(files) - len(lines)
    return [*lines, *([f"... and {counted(more, 'more file', 'more files')}"] if more else [])]


def _remedies(conflict: Conflict) -> list[str]:
    name = conflict.name
    dismiss_it = f"clinicpacs conflicts --dismiss {name}"
    if not conflict.stands:
        return [f"Import them now: clinicpacs conflicts --retry {name}", f"To leave them: {dismiss_it}"]
    match conflict.refusal:
        case Refusal.STUDY_OWNED | Refusal.SERIES_OWNED:
            return [*_with_its_owner(conflict), *_without(conflict)]
        case Refusal.PATIENT_ID_DIFFERS:
            return [
                f"The same person: clinicpacs conflicts --correct-patient-id {name}",
                f"Another person: have the device send it as a study of its own. Then: {dismiss_it}",
            ]
        case Refusal.STUDY_OWNERLESS:
            return [
                "Give it back to the clinic that its images name, then look here again: clinicpacs reindex",
                f"If the study was removed from the archive: clinicpacs conflicts --retry {name}",
                *_without(conflict),
            ]
        case Refusal.SERIES_IN_ANOTHER_STUDY:
            return _without(conflict)


def _with_its_owner(conflict: Conflict) -> list[str]:
    if not conflict.readable:
        return []
    share = f"clinicpacs conflicts --share {conflict.name} --until DAY"
    lines = [f"If both clinics should read it and the owner's images suffice: {share}"]
    if conflict.refusal is Refusal.STUDY_OWNED:
        lines.append(
            f"If it really belongs to {conflict.clinic_id}: clinicpacs conflicts --transfer {conflict.name}"
        )
    return lines


def _without(conflict: Conflict) -> list[str]:
    name = conflict.name
    return [
        f"Other images, or to be kept apart: clinicpacs conflicts --copy {name}",
        f'Dropped by mistake: clinicpacs conflicts --reject {name} --reason "wrong inbox"',
    ]


def consequence(conflict: Conflict, way: str) -> str:
    """What settling it in one way will do, as the beginning of a question."""
    files = counted(len(conflict.files), "file")
    study = conflict.other_study_uid if conflict.series_uid else conflict.study_uid
    clinic = conflict.clinic_id
    match way:
        case "share":
            return (
                f"{clinic} will be allowed to read study {study} of {conflict.owner}; "
                f"its {files} are dismissed."
            )
        case "transfer":
            return (
                f"{conflict.owner} will lose study {study}, and everybody it is shared with; it will be "
                f"{clinic}'s. The {files} will be imported, in the place of images with the same UIDs."
            )
        case "copy":
            what = "series" if conflict.series_uid else "study"
            return f"The {files} will be imported as a {what} of {clinic}'s own, under new UIDs."
        case _:
            return f"The {files} will be dismissed: they stay in failed, and nobody will see them."
