"""Files that the catalog refused because they clash with a study or series that is there already.

The refusals are those of `pacs.catalog.ownership.Refusal`. One conflict stands for all failed files of
one clinic that clash in the same way.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import pydicom
from sqlalchemy import ColumnElement, Table, select

from admin.studies import Person, patient
from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.files.failed import failed_files
from importer.files.tree import folder, open_file, split
from pacs.catalog import transfers
from pacs.catalog.ownership import Refusal
from pacs.catalog.schema import series, studies
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Connection

    from importer.dicom.part10 import InstanceHeader
    from importer.files.failed import FailedFile

_REFUSALS = frozenset(Refusal)
_NAME_LENGTH = 8
_OF_A_SERIES = frozenset({Refusal.SERIES_OWNED, Refusal.SERIES_IN_ANOTHER_STUDY})


class _Key(NamedTuple):
    clinic_id: ClinicId
    refusal: Refusal
    study_uid: Uid
    series_uid: Uid | None

    @property
    def name(self) -> str:
        said = "\0".join((self.clinic_id, self.refusal, self.study_uid, self.series_uid or ""))
        return hashlib.sha256(said.encode()).hexdigest()[:_NAME_LENGTH]


@dataclass(frozen=True)
class Conflict:
    """Files of one clinic that clash in one way.

    Attributes:
        name: on the command line; the same conflict has it whatever else there is, or was settled since.
        refusal: in which way.
        study_uid: that the files bear, and
        series_uid: where the series is what clashes.
        owner: the clinic that has the study or series; None when nobody has it any more.
        registered: the study's patient, as the catalog knows it; the PatientID is the reservation's.
        other_study_uid: the study that has the series.
        readable: whether that study, or the one that has the series, is in the archive.
        stands: whether the files would be refused again, as far as the catalog can tell.
        patient_ids: that the files bear, where that is what clashes.
    """

    name: str
    clinic_id: ClinicId
    refusal: Refusal
    study_uid: Uid
    series_uid: Uid | None
    files: tuple[FailedFile, ...] = field(repr=False)
    owner: ClinicId | None
    registered: Person | None
    other_study_uid: Uid | None
    patient_ids: frozenset[str]
    readable: bool
    stands: bool


def find_conflicts(
    connection: Connection, failed_root: Path, clinic_ids: Iterable[ClinicId]
) -> Iterator[Conflict]:
    """The conflicts of these clinics that nobody has dismissed.

    Raises:
        OSError: the failed folder cannot be read.
    """
    files = [
        (key, file) for each in clinic_ids for file in failed_files(failed_root, each) if (key := _key(file))
    ]
    files.sort(key=lambda pair: (*pair[0][:3], pair[0].series_uid or "", pair[1].day, pair[1].path))
    for key, group in groupby(files, key=lambda pair: pair[0]):
        yield _conflict(connection, failed_root, key, tuple(file for _, file in group))


def _key(file: FailedFile) -> _Key | None:
    report = file.report
    if report is None or file.dismissed or report.reason not in _REFUSALS or report.study_uid is None:
        return None
    refusal = Refusal(report.reason)
    return _Key(
        file.clinic_id, refusal, report.study_uid, report.series_uid if refusal in _OF_A_SERIES else None
    )


def _conflict(
    connection: Connection, failed_root: Path, key: _Key, files: tuple[FailedFile, ...]
) -> Conflict:
    study = _row(connection, studies, studies.c.study_uid, key.study_uid)
    held = _row(connection, series, series.c.series_uid, key.series_uid) if key.series_uid else None
    patient_ids = (
        frozenset(_patient_ids(failed_root, files))
        if key.refusal is Refusal.PATIENT_ID_DIFFERS
        else frozenset()
    )
    holder = held if key.refusal in _OF_A_SERIES else study
    name = key.name
    if key.refusal is Refusal.STUDY_OWNERLESS and study is not None:
        # It has an owner again: its files would be refused as another clinic's now, or pass.
        key = key._replace(refusal=Refusal.STUDY_OWNED)
    return Conflict(
        name=name,
        clinic_id=key.clinic_id,
        refusal=key.refusal,
        study_uid=key.study_uid,
        series_uid=key.series_uid,
        files=files,
        owner=ClinicId(holder["clinic_id"]) if holder else None,
        registered=patient(connection, key.study_uid),
        other_study_uid=Uid(held["study_uid"]) if held else None,
        patient_ids=patient_ids,
        readable=_is_readable(connection, Uid(holder["study_uid"]) if holder else key.study_uid),
        stands=_stands(key, study, held, patient_ids),
    )


def _stands(
    key: _Key,
    study: Mapping[str, str] | None,
    held: Mapping[str, str] | None,
    patient_ids: frozenset[str],
) -> bool:
    match key.refusal:
        case Refusal.STUDY_OWNERLESS:
            return True
        case Refusal.STUDY_OWNED:
            return study is not None and study["clinic_id"] != key.clinic_id
        case Refusal.PATIENT_ID_DIFFERS:
            if study is None or (study["state"] == "deleted" and study["clinic_id"] == key.clinic_id):
                return False
            # Files that cannot be read any more tell no PatientID; nothing says that they would pass.
            return patient_ids != {study["patient_id"]}
        case _:
            return held is not None and held["study_uid"] != key.study_uid


def _row(
    connection: Connection, table: Table, column: ColumnElement[str], uid: Uid
) -> Mapping[str, str] | None:
    row = connection.execute(select(table).where(column == uid)).mappings().first()
    return {name: value for name, value in row.items() if isinstance(value, str)} if row else None


def _is_readable(connection: Connection, study_uid: Uid) -> bool:
    study = transfers.owned(connection, study_uid)
    return study is not None and study.state == "confirmed"


def _patient_ids(failed_root: Path, files: Iterable[FailedFile]) -> Iterator[str]:
    for file in files:
        header = read_header(failed_root, file)
        if header is not None:
            yield header.patient_id


@contextmanager
def opened(failed_root: Path, file: FailedFile) -> Iterator[BinaryIO]:
    """A failed file, to be read.

    Raises:
        OSError: it is no longer there, or cannot be read.
    """
    *above, name = split(file.path)
    with folder(failed_root, (file.clinic_id, file.day, *above)) as descriptor:
        file_descriptor, _ = open_file(descriptor, name)
    with os.fdopen(file_descriptor, "rb") as source:
        yield source


def read_header(failed_root: Path, file: FailedFile) -> InstanceHeader | None:
    """The header of a failed file; None when it is no longer there or can no longer be read."""
    try:
        with opened(failed_root, file) as source:
            return read_instance(source.fileno())
    except (UnstorableFileError, OSError):
        return None


def persons(failed_root: Path, files: Iterable[FailedFile]) -> list[Person]:
    """Whom these files name, each once, by the first file that bears a Patient ID."""
    found: dict[str, Person] = {}
    for file in files:
        header = read_header(failed_root, file)
        if header is not None and header.patient_id not in found:
            found[header.patient_id] = _person(failed_root, file, header.patient_id)
    return [found[patient_id] for patient_id in sorted(found)]


def _person(failed_root: Path, file: FailedFile, patient_id: str) -> Person:
    tags = ["SpecificCharacterSet", "PatientName", "PatientBirthDate"]
    with opened(failed_root, file) as source:
        dataset = pydicom.dcmread(source, force=True, stop_before_pixels=True, specific_tags=tags)
    return Person(patient_id, str(dataset.get("PatientName", "")), str(dataset.get("PatientBirthDate", "")))
