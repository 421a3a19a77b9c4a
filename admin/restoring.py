"""Owners that a lost catalog took with it, from what clinicpacs itself wrote into the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs import MODIFYING_SYSTEM
from pacs.archive.model import text, values
from pacs.catalog import ownership
from pacs.catalog.engine import insert_if_absent
from pacs.catalog.ownership import Claim, Granted
from pacs.catalog.schema import clinics
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.archive import Archive, ArchivedStudy
    from pacs.archive.model import DicomJson
    from pacs.catalog import Catalog
    from pacs.ids import Uid

_ORIGINAL_ATTRIBUTES_SEQUENCE = "04000561"
_MODIFYING_SYSTEM = "04000563"
_INSTITUTION_NAME = "00080080"
_PATIENT_ID = "00100020"


class NotRestorableError(Exception):
    """Why a study stays without an owner."""


@dataclass(frozen=True)
class Restoring:
    """Gives studies back to the clinics that brought them.

    Args:
        clinic_names: the clinics that there are.
        record: writes an audit row: the connection, the action, the clinic, the study.
        now: the time.
    """

    catalog: Catalog
    archive: Archive
    clinic_names: Mapping[ClinicId, str]
    record: Callable[[Connection, str, ClinicId, Uid | None], None]
    now: Callable[[], datetime]

    def restore(self, study_uid: Uid) -> ClinicId:
        """Write the owner of one study without any; safe to call in several threads.

        Raises:
            NotRestorableError: there is none to be found.
            ArchiveUnavailableError: the archive gave no answer.
        """
        study = self.archive.study(study_uid)
        if study is None:
            raise NotRestorableError("the archive lists it, but none of its series")
        owner = self._written_owner(study)
        if owner not in self.clinic_names:
            raise NotRestorableError(f"its clinic {owner} is not in the catalog: add it and run this again")
        with self.catalog.write() as connection:
            if self._add_clinic(connection, owner, self.clinic_names[owner]):
                self.record(connection, "restore-clinic", owner, None)
            self._claim(connection, study, owner)
            self.record(connection, "restore-owner", owner, study_uid)
        return owner

    def _add_clinic(self, connection: Connection, clinic_id: ClinicId, name: str) -> bool:
        # Several threads may restore the first studies of one clinic at once.
        return insert_if_absent(connection, clinics, id=clinic_id, name=name, created_at=self.now())

    def _written_owner(self, study: ArchivedStudy) -> ClinicId:
        if len(study.series_uids) != len(study.series):
            raise NotRestorableError("the archive lists a series without a UID")
        owners = {
            written_owner(self.archive.first_instance_metadata(study.study_uid, series_uid))
            for series_uid in study.series_uids
        }
        if None in owners:
            raise NotRestorableError("not all of its series were stored through clinicpacs")
        if len(owners) != 1:
            raise NotRestorableError("its series name different clinics")
        return next(owner for owner in owners if owner is not None)

    def _claim(self, connection: Connection, study: ArchivedStudy, owner: ClinicId) -> None:
        # The same reservation as the importer's, so that whoever came first stays the owner.
        patient_id = study.text(_PATIENT_ID).strip("\0 ").strip()
        for series_uid in study.series_uids:
            claim = Claim(owner, study.study_uid, series_uid, patient_id)
            verdict = ownership.reserve(connection, claim, self.now())
            if verdict is not Granted.OWNED:
                raise NotRestorableError(f"the catalog says: {verdict}")


def written_owner(metadata: DicomJson | None) -> ClinicId | None:
    """The clinic that clinicpacs itself wrote into an instance; None when somebody else wrote last."""
    history = values(metadata, _ORIGINAL_ATTRIBUTES_SEQUENCE)
    if not history or text(history[-1], _MODIFYING_SYSTEM).strip() != MODIFYING_SYSTEM:
        return None
    try:
        return ClinicId(text(metadata, _INSTITUTION_NAME).strip())
    except InvalidClinicIdError:
        return None
