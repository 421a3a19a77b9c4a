"""Gives failed files UIDs of their own, so that they come in as a copy beside what they clash with.

The new UIDs follow from the clinic and the old ones (PS3.5 section B.2, by a name-based UUID): what is copied
twice is one copy, and files that come later find their place in it. Whatever refers to something of the copy
refers to the copy. OriginalAttributesSequence keeps the old UIDs (PS3.3 section C.12.1.1.9).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import UID

from admin.rewriting import note_replaced
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from pydicom.tag import BaseTag

    from admin.conflicts import Conflict
    from importer.dicom.part10 import InstanceHeader
    from pacs.archive import Archive

_NAMESPACE = uuid.UUID("9c0b5b54-9d2f-5c0d-8c55-6f4f0a5d7a1e")
_STANDARD = "1.2.840.10008."
"""The root of what DICOM itself has named: classes, syntaxes, well-known frames of reference."""
_FRAME_OF_REFERENCE = "FrameOfReferenceUID"
# Of a device's clock, which any number of studies have in common.
_SYNCHRONIZATION = "SynchronizationFrameOfReferenceUID"
_NAMES_AN_INSTANCE = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID"})
_ORIGINAL_ATTRIBUTES_SEQUENCE = "OriginalAttributesSequence"
# PS3.3 section C.12.2: of the same study.
_REFERENCED_SERIES_SEQUENCE = "ReferencedSeriesSequence"
_KEPT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", _FRAME_OF_REFERENCE)


def new_uid(clinic_id: ClinicId, old: str) -> Uid:
    """The UID that takes an old one's place in this clinic's copies."""
    return Uid(f"2.25.{uuid.uuid5(_NAMESPACE, f'{clinic_id}/{old}').int}")


def copied(archive: Archive, conflict: Conflict, headers: Iterable[InstanceHeader]) -> Callable[[str], bool]:
    """What tells whether an old UID is of the study, or series, that these files are about.

    That is what the files bear, what the archive has under the UIDs that clash, and what came into the copy
    before.

    Raises:
        ArchiveUnavailableError: the archive gave no answer.
    """
    clinic_id, study_uid, series_uid = conflict.clinic_id, conflict.study_uid, conflict.series_uid
    known: set[str] = set()
    for header in headers:
        known |= {header.series_instance_uid, header.sop_instance_uid}
    if series_uid is None:
        known |= {study_uid} | _in_study(archive, study_uid)
        new = _in_study(archive, new_uid(clinic_id, study_uid))
    else:
        other = conflict.other_study_uid
        known |= set(archive.instance_uids(other, series_uid)) if other else set()
        new = set(archive.instance_uids(study_uid, new_uid(clinic_id, series_uid)))
    return lambda old: old in known or new_uid(clinic_id, old) in new


def _in_study(archive: Archive, study_uid: Uid) -> set[str]:
    study = archive.study(study_uid)
    series = study.series_uids if study else []
    return {
        *series,
        *(each for series_uid in series for each in archive.instance_uids(study_uid, series_uid)),
    }


@dataclass(frozen=True)
class Copying:
    """What failed files are to be given: a `Change`.

    Args:
        clinic_id: whose files they are.
        study_uid: that they bear; gets a new one, with its frames of reference, if it is `copied`.
        is_copied: whether an old UID is of something that is copied.
        now: the time, with a time zone.
    """

    clinic_id: ClinicId
    study_uid: Uid
    is_copied: Callable[[str], bool] = field(repr=False)
    now: datetime

    @property
    def whole_study(self) -> bool:
        """Whether all of the study gets new UIDs, not only a series."""
        return self.is_copied(self.study_uid)

    def make(self, dataset: Dataset) -> None:
        """Exchange the UIDs."""
        before = Dataset()
        old = {keyword: dataset.get(keyword) for keyword in _KEPT}
        self._exchange_in(dataset, within=None)
        for keyword, value in old.items():
            if value is not None and dataset.get(keyword) != value:
                setattr(before, keyword, value)
        note_replaced(dataset, before, "COERCE", self.now)

    def fault(self, written: InstanceHeader) -> str | None:
        """Whether one of the UIDs that clash is still there."""
        found = {written.study_instance_uid, written.series_instance_uid, written.sop_instance_uid}
        return "its UIDs could not be exchanged" if any(map(self.is_copied, found)) else None

    def _exchange_in(self, dataset: Dataset, *, within: bool | None) -> None:
        """Exchange UIDs in a data set or item.

        `within`: whether what it names is of this study, as something above it says; None if nothing does.
        """
        for tag in list(dataset.keys()):
            vr = _vr(dataset, tag)
            keyword = keyword_for_tag(tag)
            if vr == "SQ" and keyword != _ORIGINAL_ATTRIBUTES_SEQUENCE:
                inside = within
                if within is None and keyword == _REFERENCED_SERIES_SEQUENCE:
                    inside = self.whole_study
                for item in dataset[tag].value or []:
                    self._exchange_in(item, within=self._is_within(item, inside))
            elif vr == "UI":
                self._exchange(dataset, tag, keyword, within=bool(within))

    def _is_within(self, item: Dataset, above: bool | None) -> bool | None:  # noqa: FBT001 - what it inherits
        named = item.get("StudyInstanceUID")
        return above if named is None else self.whole_study and named == self.study_uid

    def _exchange(self, dataset: Dataset, tag: BaseTag, keyword: str, *, within: bool) -> None:
        value = dataset[tag].value
        several = [value] if isinstance(value, str) else list(value or [])
        new = [self._new(str(each), keyword, within=within) for each in several]
        if new != several:
            dataset[tag].value = [UID(each) for each in new] if len(new) > 1 else UID(new[0])

    def _new(self, old: str, keyword: str, *, within: bool) -> str:
        if not old or old.startswith(_STANDARD):
            return old
        of_frames = keyword.endswith(_FRAME_OF_REFERENCE) and keyword != _SYNCHRONIZATION
        is_ours = (
            self.is_copied(old)
            or (self.whole_study and of_frames)
            or (within and keyword in _NAMES_AN_INSTANCE)
        )
        return new_uid(self.clinic_id, old) if is_ours else old


def _vr(dataset: Dataset, tag: BaseTag) -> str:
    """The VR of an element, without decoding its value."""
    known = dataset.get_item(tag).VR
    if known and known != "UN":
        return str(known)
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""
