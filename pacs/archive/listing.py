"""Orthanc's list of all studies, in the form of QIDO-RS, for a fraction of its cost.

Measured with Orthanc 1.12.7 on the index plugin 5.0 for PostgreSQL: a page of QIDO-RS costs 0.4 ms for every
study that its offset skips, which is an hour for 100,000 studies in pages; ``/studies`` of the REST API skips
in the database. What it says is the same: both read the attributes that Orthanc keeps in its index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacs.archive.model import ListedStudy
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from pacs.archive.model import DicomJson

_COUNTS = ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")


def path(offset: int, limit: int) -> str:
    """Of the request for one page, below the root of the REST API."""
    # The semicolons have to be as they are (measured, 1.12.7: 400 for %3B).
    return f"studies?expand&since={offset}&limit={limit}&requestedTags={';'.join(_COUNTS)}"


_STUDY_UID = "StudyInstanceUID"
# In the order of their tags.
_FIELDS = (
    ("StudyDate", ("00080020", "DA")),
    ("StudyTime", ("00080030", "TM")),
    ("AccessionNumber", ("00080050", "SH")),
    ("ModalitiesInStudy", ("00080061", "CS")),
    ("InstitutionName", ("00080080", "LO")),
    ("ReferringPhysicianName", ("00080090", "PN")),
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
    """The studies of one page, None for one without a UID; None altogether when this is no such page."""
    if not isinstance(answer, list):
        return None
    tags = [_tags(entry) for entry in answer]
    return None if None in tags else [_listed(each) for each in tags if each is not None]


def _tags(entry: Any) -> dict[str, str] | None:
    told: dict[str, str] = {}
    for of in ("MainDicomTags", "PatientMainDicomTags", "RequestedTags"):
        part = entry.get(of) if isinstance(entry, dict) else None
        if not isinstance(part, dict):
            return None
        told |= {name: text for name, text in part.items() if isinstance(text, str)}
    # Without these it is an Orthanc before 1.11, which does not know them here.
    return told if all(name in told for name in _COUNTS) else None


def _listed(tags: dict[str, str]) -> ListedStudy | None:
    try:
        study_uid = Uid(tags.get(_STUDY_UID, ""))
    except InvalidUidError:
        return None
    said = {tag: _element(vr, tags[name]) for name, (tag, vr) in _FIELDS if name in tags}
    return ListedStudy(study_uid, _CHARACTER_SET | said)


def _element(vr: str, text: str) -> DicomJson:
    if not text:
        return {"vr": vr}
    each = text.split("\\")
    if vr == "PN":
        return {"Value": [_name(name) for name in each], "vr": vr}
    return {"Value": [int(one) if vr == "IS" and one.isdecimal() else one for one in each], "vr": vr}


def _name(text: str) -> dict[str, str] | None:
    return dict(zip(_GROUPS, text.split("="), strict=False)) if text else None
