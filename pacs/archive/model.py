"""Answers of the archive, parsed: nothing of them is trusted to have the right shape."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Mapping

_TAG = re.compile(r"[0-9A-Fa-f]{8}")

REFERENCED_SOP_SEQUENCE = "00081199"
FAILED_SOP_SEQUENCE = "00081198"
OTHER_FAILURES_SEQUENCE = "0008119A"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON = "00081197"
_WARNING_REASON = "00081196"

DicomJson = dict[str, Any]
"""One data set in the DICOM JSON model (PS3.18 annex F)."""


def values(dataset: Any, tag: str) -> list[Any]:
    """The values of an element; none when it is absent, empty or malformed."""
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def text(dataset: Any, tag: str) -> str:
    """The values of a text or number element, joined as DICOM joins them."""
    return "\\".join(str(each) for each in values(dataset, tag) if isinstance(each, str | int | float))


def person_name(dataset: Any, tag: str) -> tuple[str, ...]:
    """The component groups of all person names of an element (PS3.18 section F.2.2)."""
    names = [each for each in values(dataset, tag) if isinstance(each, dict)]
    return tuple(
        str(name[group])
        for name in names
        for group in ("Alphabetic", "Ideographic", "Phonetic")
        if name.get(group)
    )


def uid(dataset: Any, tag: str) -> Uid | None:
    """A UID element; None when there is none worth the name."""
    try:
        return Uid(text(dataset, tag))
    except InvalidUidError:
        return None


def is_dataset(answer: Any) -> bool:
    """Whether this is one data set in the DICOM JSON model."""
    return isinstance(answer, dict) and all(
        _TAG.fullmatch(tag) and isinstance(element, dict) for tag, element in answer.items()
    )


@dataclass(frozen=True)
class StoreAnswer:
    """What the archive said of each instance (PS3.18 section 10.5.3).

    Attributes:
        status: of HTTP.
        stored: instances that the archive has.
        failures: FailureReason (PS3.18 table I.2-2) of each instance listed as failed, None where none was
            given. An instance that the archive could not even parse is in neither.
        other_failures: such reasons of instances that the archive cannot name (OtherFailuresSequence).
        warnings: WarningReason (PS3.18 table I.2-1) of instances that it has, but not as they were sent.
    """

    status: int
    stored: frozenset[Uid]
    failures: Mapping[Uid, int | None] = field(default_factory=dict)
    other_failures: tuple[int | None, ...] = ()
    warnings: Mapping[Uid, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, status: int, answer: DicomJson) -> StoreAnswer:
        """From the response's data set."""
        failures = {
            found: _number(item, _FAILURE_REASON)
            for item in values(answer, FAILED_SOP_SEQUENCE)
            if (found := uid(item, _REFERENCED_SOP_INSTANCE_UID))
        }
        others = tuple(_number(item, _FAILURE_REASON) for item in values(answer, OTHER_FAILURES_SEQUENCE))
        listed = {
            found: _number(item, _WARNING_REASON)
            for item in values(answer, REFERENCED_SOP_SEQUENCE)
            if (found := uid(item, _REFERENCED_SOP_INSTANCE_UID)) and found not in failures
        }
        warnings = {found: code for found, code in listed.items() if code}
        return cls(status, frozenset(listed), failures, others, warnings)


def _number(item: Any, tag: str) -> int | None:
    found = values(item, tag)
    return found[0] if found and isinstance(found[0], int) else None


@dataclass(frozen=True)
class ListedStudy:
    """One study as a search for studies tells it: its attributes, and its series counted."""

    study_uid: Uid
    dicom_json: DicomJson

    def text(self, tag: str) -> str:
        """A study attribute's text."""
        return text(self.dicom_json, tag)

    def person_name(self, tag: str) -> tuple[str, ...]:
        """A study attribute's person name, by component group."""
        return person_name(self.dicom_json, tag)

    @property
    def modalities(self) -> list[str]:
        """The modalities of its series, sorted."""
        found = values(self.dicom_json, "00080061")
        return sorted({each for each in found if each and isinstance(each, str)})

    @property
    def series_count(self) -> int:
        """How many series it has; 0 when that is not told."""
        return _count(self.dicom_json, "00201206")

    @property
    def instance_count(self) -> int:
        """How many instances its series have together."""
        return _count(self.dicom_json, "00201208")


@dataclass(frozen=True)
class ArchivedStudy(ListedStudy):
    """One study with the attributes of each of its series."""

    series: tuple[DicomJson, ...]

    @property
    def series_uids(self) -> list[Uid]:
        """Its series."""
        return [found for each in self.series if (found := uid(each, "0020000E"))]

    @property
    def modalities(self) -> list[str]:
        """The modalities of its series, sorted."""
        return sorted({found for each in self.series if (found := text(each, "00080060"))})

    @property
    def series_count(self) -> int:
        """How many series it has."""
        return len(self.series_uids)

    @property
    def instance_count(self) -> int:
        """How many instances its series have together."""
        return sum(_count(each, "00201209") for each in self.series)


def _count(dataset: DicomJson, tag: str) -> int:
    found = values(dataset, tag)
    return int(found[0]) if found and str(found[0]).isdecimal() else 0
