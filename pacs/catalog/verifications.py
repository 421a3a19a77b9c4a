"""What the last verification of each clinic's files found; nothing of a clinic that was never verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from pacs.catalog.inserting import upsert
from pacs.catalog.schema import verifications
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Verification:
    """One clinic's files in processed, held against the archive.

    Attributes:
        finished_at: when.
        files: that were compared.
        missing: whose images the archive does not have.
        different: whose images are others in the archive.
    """

    clinic_id: ClinicId
    finished_at: datetime
    files: int
    missing: int
    different: int

    @property
    def faults(self) -> int:
        """Files of which the archive does not have the same."""
        return self.missing + self.different


def last(connection: Connection) -> list[Verification]:
    """The last one of each clinic."""
    rows = connection.execute(select(verifications).order_by(verifications.c.clinic_id))
    return [
        Verification(ClinicId(row.clinic_id), row.finished_at, row.files, row.missing, row.different)
        for row in rows
    ]


def record(connection: Connection, found: Verification) -> None:
    """Put it in the place of the clinic's last one; the clinic is in the catalog."""
    upsert(connection, verifications, **vars(found))
