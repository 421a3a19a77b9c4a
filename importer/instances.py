"""The one place where the importer's daemon meets the DICOM file layer."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.part10 import read_instance
from importer.refusal import SkippedFileError, UnstorableFileError
from importer.tag import tag
from importer.work import Known, Settlement
from pacs.archive import Part
from pacs.catalog.ownership import Claim

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from importer.part10 import InstanceHeader
    from importer.tag import TaggedInstance
    from pacs.catalog.imports import Outcome
    from pacs.ids import ClinicId


@dataclass(slots=True, eq=False)
class Instance:
    """An open file whose header was read. Close it when it was sent, or is not going to be."""

    fd: int
    header: InstanceHeader
    known: Known
    _tagged: TaggedInstance | None = None

    @classmethod
    def read(cls, fd: int) -> Instance | Settlement:
        """Read the open file; what cannot be stored is settled, and `fd` stays the caller's then.

        Raises:
            OSError: the file system failed; nothing is known about the file.
        """
        try:
            header = read_instance(fd)
        except UnstorableFileError as error:
            return _settled(error)
        known = Known(header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        return cls(fd, header, known)

    def claim(self, clinic_id: ClinicId) -> Claim:
        """What is to be reserved for it."""
        header = self.header
        return Claim(clinic_id, header.study_instance_uid, header.series_instance_uid, header.patient_id)

    def part(self, clinic_id: ClinicId, now: datetime, temporary_folder: Path) -> Part | Settlement:
        """The instance with the clinic written into it, to be sent.

        Raises:
            OSError: the file system failed.
        """
        try:
            self._tagged = tag(
                self.header, self.fd, clinic_id, modified_at=now, temporary_folder=temporary_folder
            )
        except UnstorableFileError as error:
            return _settled(error, self.known)
        return Part(self._tagged.segments, self._tagged.size)

    def close(self) -> None:
        """Close the file and what was made of it."""
        if self._tagged is not None:
            self._tagged.close()
            self._tagged = None
        with suppress(OSError):
            os.close(self.fd)


def _settled(error: UnstorableFileError, known: Known | None = None) -> Settlement:
    uids = getattr(error, "uids", {})
    found = known or Known(
        uids.get("StudyInstanceUID"), uids.get("SeriesInstanceUID"), uids.get("SOPInstanceUID")
    )
    outcome: Outcome = "skipped" if isinstance(error, SkippedFileError) else "failed"
    return Settlement(outcome, str(error.reason), error.text, found)
