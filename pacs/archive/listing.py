"""Orthanc's list of all studies, in the form of QIDO-RS, for a fraction of its cost.

Measured with Orthanc 1.12.7 on the index plugin 5.0 for PostgreSQL: a page of QIDO-RS costs 0.4 ms for every
study that its offset skips, which is an hour for 100,000 studies in pages; ``/studies`` of the REST API skips
in the database. What it says is the same: both read the attributes that Orthanc keeps in its index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacs.archive.model import ListedStudy, text
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from pacs.archive.model import DicomJson

ABOUT_ONE_STUDY = frozenset({"status-400", "status-500", "not-dicom-json"})
"""Reasons of an `ArchiveUnavailableError` by which the archive may stumble over one study of many."""

_COUNTS = ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
_COUNT_TAGS = ("00201206", "00201208", "00201209")
_COUNT_DIGITS = 7


def path(offset: int, limit: int, *, counted: bool = True) -> str:
    """Of the request for one page, below the root of the REST API."""
    # The semicolons have to be as they are (measured, 1.12.7: 400 for %3B).
    counts = f"&requestedTags={';'.join(_COUNTS)}" if counted else ""
    return f"studies?expand&since={offset}&limit={limit}{counts}"


_STUDY_UID = "StudyInstanceUID"
# In the order of their tags.
_FIELDS = (
    ("StudyDate", ("00080020", "DA")),
    ("StudyTime", ("00080030", "TM")),
    ("AccessionNumber", ("00080050", "SH")),
    ("ModalitiesInStudy", ("00080061", "CS")),
    ("InstitutionName", ("00080080", "LO")),
    ("ReferringPhysicianName", ("00080090", "PN")),
    ("TimezoneOffsetFromUTC", ("00080201", "SH")),
    ("StudyDescription", ("00081030", "LO")),
    ("PatientName", ("00100010", "PN")),
    ("PatientID", ("00100020", "LO")),
    ("PatientBirthDate", ("00100030", "DA")),
    ("PatientSex", ("00100040", "CS")),
    (_STUDY_UID, ("0020000D", "UI")),
    ("StudyID", ("00200010", "SH")),
    ("NumberOfStudyRelatedSeries", ("00201206", "IS")),
    ("NumberOfStudyRelatedInstances", ("00201208", "IS")),
)
# JSON is UTF-8, and Orthanc says so of every study.
_CHARACTER_SET: DicomJson = {"00080005": {"Value": ["ISO_IR 192"], "vr": "CS"}}
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def parse(answer: Any) -> list[ListedStudy | None] | None:
    """The studies of one page, None for one without a UID; None altogether when this is no such page.

    One that is not counted says so: its `series_count` is 0.
    """
    if not isinstance(answer, list):
        return None
    tags = [_tags(entry) for entry in answer]
    return None if None in tags else [_listed(each) for each in tags if each is not None]


def is_orthancs(answer: Any) -> bool:
    """Whether this is Orthanc's page with series counts (1.11 or newer)."""
    return any(study and study.series_count for study in parse(answer) or ())


def plausible(told: DicomJson) -> DicomJson:
    """The same without numbers of series and instances that nobody could read or keep."""
    absurd = {tag for tag in _COUNT_TAGS if len(text(told, tag)) > _COUNT_DIGITS}
    return {tag: element for tag, element in told.items() if tag not in absurd} if absurd else told


def _tags(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    parts = [entry.get("MainDicomTags"), entry.get("PatientMainDicomTags"), entry.get("RequestedTags", {})]
    if not all(isinstance(part, dict) for part in parts):
        return None
    return {name: said for part in parts for name, said in part.items() if isinstance(said, str)}


def _listed(tags: dict[str, str]) -> ListedStudy | None:
    try:
        study_uid = Uid(tags.get(_STUDY_UID, ""))
    except InvalidUidError:
        return None
    said = {tag: _element(vr, tags[name]) for name, (tag, vr) in _FIELDS if name in tags}
    return ListedStudy(study_uid, plausible(_CHARACTER_SET | said))


def _element(vr: str, text: str) -> DicomJson:
    # QIDO-RS has no padding; here Orthanc keeps that of a value in VR UN (measured, 1.12.7).
    if not text.strip(" "):
        return {"vr": vr}
    each = [one.strip(" ") for one in text.split("\\")]
    if vr == "PN":
        return {"Value": [_name(name) for name in each], "vr": vr}
    return {"Value": [_number(one) if vr == "IS" else one for one in each], "vr": vr}


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= _COUNT_DIGITS else text


def _name(text: str) -> dict[str, str] | None:
    return dict(zip(_GROUPS, text.split("="), strict=False)) if text else None
