"""Gives a failed file the PatientID that its study is registered under, as a corrected copy in the inbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from admin.rewriting import note_replaced

if TYPE_CHECKING:
    from datetime import datetime

    from importer.dicom.part10 import InstanceHeader


@dataclass(frozen=True)
class Correction:
    """What failed files are to be given: a `Change`.

    Args:
        patient_id: under which the study is registered.
        now: the time of the correction, with a time zone.
    """

    patient_id: str
    now: datetime

    def make(self, dataset: Dataset) -> None:
        """Give it the PatientID."""
        before = Dataset()
        before.PatientID = dataset.get("PatientID", "")
        note_replaced(dataset, before, "CORRECT", self.now)
        dataset.PatientID = self.patient_id

    def fault(self, written: InstanceHeader) -> str | None:
        """Pydicom writes `?` for what a character set cannot hold."""
        if written.patient_id != self.patient_id:
            return "its character set cannot hold the study's PatientID"
        return None
