"""The clinics that the platform serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from pacs.catalog.inserting import insert_if_absent
from pacs.catalog.schema import clinics
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Clinic:
    """One clinic as the catalog has it."""

    id: ClinicId
    name: str
    active: bool


def all_clinics(connection: Connection) -> list[Clinic]:
    """Every clinic, inactive ones too, by id."""
    rows = connection.execute(select(clinics.c.id, clinics.c.name, clinics.c.active).order_by(clinics.c.id))
    return [Clinic(ClinicId(row.id), row.name, row.active) for row in rows]


def find(connection: Connection, clinic_id: ClinicId) -> Clinic | None:
    """The clinic, inactive too; None where there is none of this id."""
    row = connection.execute(
        select(clinics.c.name, clinics.c.active).where(clinics.c.id == clinic_id)
    ).first()
    return None if row is None else Clinic(clinic_id, row.name, row.active)


def active_ids(connection: Connection) -> frozenset[ClinicId]:
    """The clinics that are served: their inboxes imported, their users let in."""
    return frozenset(clinic.id for clinic in all_clinics(connection) if clinic.active)


def add(connection: Connection, clinic_id: ClinicId, name: str, now: datetime) -> bool:
    """Add a clinic, or rename and reactivate one that is there; True when it is new."""
    if insert_if_absent(connection, clinics, id=clinic_id, name=name, created_at=now):
        return True
    connection.execute(update(clinics).where(clinics.c.id == clinic_id).values(name=name, active=True))
    return False


def deactivate(connection: Connection, clinic_id: ClinicId) -> None:
    """Stop serving a clinic; its studies stay its own."""
    connection.execute(update(clinics).where(clinics.c.id == clinic_id).values(active=False))
