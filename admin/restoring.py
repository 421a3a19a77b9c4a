"""Owners that a lost catalog took with it, from what clinicpacs itself wrote into the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import false, insert, select, update

from pacs.catalog.schema import audit, clinics, studies
from pacs.ids import ClinicId
from pacs.written_owner import NotRestorableError, give_back, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.ids import Uid


class NothingRestoredError(Exception):
    """The catalog was lost, and the archive gives no study its owner back: its clinics are not served."""


@dataclass(frozen=True)
class Restoring:
    """Gives studies back to the clinics that brought them.

    Args:
        clinic_ids: the clinics that there are.
        record: writes an audit row: the connection, the action, the clinic, the study.
        now: the time.
    """

    catalog: Catalog
    archive: Archive
    clinic_ids: frozenset[ClinicId]
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
        owner = owner_of(self.archive, study)
        if owner not in self.clinic_ids:
            raise NotRestorableError(f"its clinic {owner} is not in the catalog: add it and run this again")
        with self.catalog.write() as connection:
            give_back(connection, study, owner, self.now())
            self.record(connection, "restore-owner", owner, study_uid)
        return owner


_RESTORE = "restore-clinic"


@dataclass(frozen=True)
class LostClinics:
    """Brings the clinics of a lost catalog back, in two steps around the restoring of their studies.

    Until all owners are back no clinic is served: an importer at work would refuse files whose study has no
    owner yet. Arguments as of `Restoring`.
    """

    catalog: Catalog
    record: Callable[[Connection, str, ClinicId, Uid | None], None]
    now: Callable[[], datetime]

    def bring_back(self, groups: Callable[[], Mapping[ClinicId, str]]) -> frozenset[ClinicId]:
        """All clinics; those of the identity provider's `groups`, inactive, if the catalog has none."""
        known = self._known()
        if known:
            return known
        found = groups()
        with self.catalog.write() as connection:
            for clinic_id, name in sorted(found.items()):
                values = {"id": clinic_id, "name": name, "created_at": self.now(), "active": False}
                connection.execute(insert(clinics).values(values))
            for clinic_id in sorted(found):
                self.record(connection, _RESTORE, clinic_id, None)
        return frozenset(found)

    def _known(self) -> frozenset[ClinicId]:
        with self.catalog.read() as connection:
            return frozenset(map(ClinicId, connection.scalars(select(clinics.c.id))))

    def serve(self, *, force: bool) -> list[ClinicId]:
        """Every owner is back: let the importer and the clinics' users in; returns whose.

        Those, too, that an earlier run brought back and was not done with.

        Raises:
            NothingRestoredError: without `force`, if no study has an owner.
        """
        with self.catalog.write() as connection:
            waiting = _waiting(connection)
            if waiting and not force and connection.scalar(select(studies.c.study_uid).limit(1)) is None:
                raise NothingRestoredError
            for clinic_id in waiting:
                connection.execute(update(clinics).where(clinics.c.id == clinic_id).values(active=True))
            for clinic_id in waiting:
                self.record(connection, "serve-clinic", clinic_id, None)
        return waiting


def _waiting(connection: Connection) -> list[ClinicId]:
    inactive = list(connection.scalars(select(clinics.c.id).where(clinics.c.active == false())))
    rows = connection.execute(
        select(audit.c.clinic_id, audit.c.action)
        .where(audit.c.clinic_id.in_(inactive), audit.c.action.in_((_RESTORE, "deactivate-clinic")))
        .order_by(audit.c.id)
    )
    # Whoever deactivated a clinic since has had the last word.
    last = {row.clinic_id: row.action for row in rows}
    return sorted(ClinicId(clinic_id) for clinic_id, action in last.items() if action == _RESTORE)
