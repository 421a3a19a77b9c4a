"""Studies of one tiny image each, made by their number."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from pacs.ids import ClinicId, Uid
from support.corpus import SamplePatient, instance_bytes
from support.dicom_files import tag_bytes

CLINICS = tuple(ClinicId(f"clinic-{number}") for number in range(10))
MODALITIES = ("CT", "MR", "CR", "US")

_UID_ROOT = "1.2.826.0.1.3680043.10.1421"
_FIRST, _FIRST_PATIENT = 1_000_000_000, 2_000_000_000
_DATE = "19990909"


@dataclass(frozen=True)
class Study:
    """What study `number` of any archive says; the same number always says the same."""

    number: int
    clinic: ClinicId
    modality: str
    patient: int
    day: date

    @classmethod
    def of(cls, number: int) -> Study:
        chance = random.Random(number)
        patient = chance.randrange(1 + number // 3)
        day = date(2020, 1, 1) + timedelta(days=chance.randrange(2000))
        return cls(number, chance.choice(CLINICS), chance.choice(MODALITIES), patient, day)

    @property
    def uid(self) -> Uid:
        return Uid(f"{_UID_ROOT}.{_FIRST + self.number}.1")

    @property
    def series_uid(self) -> Uid:
        return Uid(f"{_UID_ROOT}.{_FIRST + self.number}.2")

    @property
    def sop_instance_uid(self) -> Uid:
        return Uid(f"{_UID_ROOT}.{_FIRST + self.number}.3")

    @property
    def patient_id(self) -> str:
        return f"P{_FIRST_PATIENT + self.patient}"

    @property
    def patient_name(self) -> str:
        return f"Sample^Number{_FIRST_PATIENT + self.patient}"

    @property
    def accession_number(self) -> str:
        return f"A{_FIRST + self.number}"

    @property
    def description(self) -> str:
        return f"{self.modality} of the head"

    def file(self) -> bytes:
        """Its one instance, as the importer of its clinic sends it to the archive."""
        return (
            _template(self.clinic, self.modality)
            .replace(str(_FIRST).encode(), str(_FIRST + self.number).encode())
            .replace(str(_FIRST_PATIENT).encode(), str(_FIRST_PATIENT + self.patient).encode())
            .replace(_DATE.encode(), f"{self.day:%Y%m%d}".encode())
        )


@cache
def _template(clinic: ClinicId, modality: str) -> bytes:
    """The file of number 0, whose every text that differs is as long as any other's."""
    first = Study(0, clinic, modality, 0, date.fromisoformat(_DATE))
    content = instance_bytes(
        modality,
        patient=SamplePatient(first.patient_id, first.patient_name),
        seed=_FIRST,
        study_uid=first.uid,
        series_uid=first.series_uid,
        sop_instance_uid=first.sop_instance_uid,
        size=16,
        frames=1,
        study_date=_DATE,
        description=first.description,
    )
    return tag_bytes(content, clinic)
