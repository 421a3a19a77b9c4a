"""The attributes that the index keeps, and which of them are answered unasked (PS3.18 section 10.6.3.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_VR, tag_for_keyword

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(IntEnum):
    """The levels of the information model that are searched."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


def _tags(keywords: str) -> tuple[str, ...]:
    return tuple(sorted(json_tag(_known(keyword)) for keyword in keywords.split()))


def _known(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(keyword)
    return tag


def json_tag(tag: int) -> str:
    """A tag as the DICOM JSON model writes it (PS3.18 annex F): ``0020000D``."""
    return f"{tag:08X}"


DEFAULTS: dict[Level, tuple[str, ...]] = {
    Level.STUDY: _tags(
        "StudyDate StudyTime AccessionNumber ReferringPhysicianName TimezoneOffsetFromUTC StudyDescription "
        "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID"
    ),
    Level.SERIES: _tags(
        "Modality SeriesDescription SeriesInstanceUID SeriesNumber BodyPartExamined "
        "SeriesDate SeriesTime PerformedProcedureStepStartDate PerformedProcedureStepStartTime"
    ),
    Level.INSTANCE: _tags(
        "SOPClassUID SOPInstanceUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames"
    ),
}
"""Part of every answer, empty where the files say nothing."""

_ON_REQUEST: dict[Level, tuple[str, ...]] = {
    Level.STUDY: _tags("InstitutionName IssuerOfPatientID PatientAge"),
    Level.SERIES: _tags("Manufacturer ManufacturerModelName StationName ProtocolName Laterality"),
    Level.INSTANCE: _tags("ContentDate ContentTime AcquisitionNumber ImageType"),
}

INDEXED: dict[Level, tuple[str, ...]] = {
    level: tuple(sorted(DEFAULTS[level] + _ON_REQUEST[level])) for level in Level
}
"""Kept for search and answers: of the study and series level, as the first stored instance says."""

MODALITIES_IN_STUDY = json_tag(_known("ModalitiesInStudy"))
RETRIEVE_URL = json_tag(_known("RetrieveURL"))
STUDY_SERIES = json_tag(_known("NumberOfStudyRelatedSeries"))
STUDY_INSTANCES = json_tag(_known("NumberOfStudyRelatedInstances"))
SERIES_INSTANCES = json_tag(_known("NumberOfSeriesRelatedInstances"))
CHARACTER_SET = json_tag(_known("SpecificCharacterSet"))
MODALITY = json_tag(_known("Modality"))
STUDY_UID = json_tag(_known("StudyInstanceUID"))
SERIES_UID = json_tag(_known("SeriesInstanceUID"))
SOP_UID = json_tag(_known("SOPInstanceUID"))
SOP_CLASS_UID = json_tag(_known("SOPClassUID"))

HEADER_TAGS = tuple(int(tag, 16) for level in Level for tag in INDEXED[level])
"""What is read from a file when it is stored."""


def value_representation(tag: str) -> str:
    """The VR of an attribute by the data dictionary; ``UN`` where it is not known."""
    try:
        return dictionary_VR(int(tag, 16)).split(" or ", maxsplit=1)[0]
    except KeyError:
        return "UN"


def parse_attribute(name: str) -> str | None:
    """The tag that a query names by keyword or by eight hexadecimal digits (PS3.18 section 8.3.4.1)."""
    tag = tag_for_keyword(name)
    if tag is not None:
        return json_tag(tag)
    try:
        return json_tag(int(name, 16)) if len(name) == 8 else None  # noqa: PLR2004 - ggggeeee
    except ValueError:
        return None


def levels_through(level: Level) -> Iterable[Level]:
    """A level and those above it, whose attributes its answers carry too."""
    return [each for each in Level if each <= level]
