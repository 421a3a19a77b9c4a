"""What was imported: a row per study folder and outcome; a failed file has a row of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, insert, select

from pacs.catalog.schema import imports

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.ids import ClinicId, Uid

Outcome = Literal["stored", "failed", "skipped"]


@dataclass(frozen=True)
class ImportRow:
    """So many files of one study folder with one outcome; `bytes` as they lay in the inbox."""

    clinic_id: ClinicId
    folder: str
    study_uid: Uid | None
    outcome: Outcome
    files: int
    bytes: int
    path: str | None = None
    reason: str | None = None


def append(connection: Connection, rows: Iterable[ImportRow], now: datetime) -> None:
    """Add rows. A study folder may have several of one outcome, which add up."""
    values = [
        {
            **vars(row),
            "folder": _storable(row.folder),
            "path": row.path and _storable(row.path),
            "finished_at": now,
        }
        for row in rows
    ]
    if values:
        connection.execute(insert(imports), values)


def _storable(path: str) -> str:
    # A file name may hold bytes that are no text in any encoding; no database takes the surrogates.
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def totals_since(connection: Connection, since: datetime) -> dict[tuple[str, str], tuple[int, datetime]]:
    """Files and time of the latest per (clinic, outcome)."""
    rows = connection.execute(
        select(
            imports.c.clinic_id, imports.c.outcome, func.sum(imports.c.files), func.max(imports.c.finished_at)
        )
        .where(imports.c.finished_at >= since)
        .group_by(imports.c.clinic_id, imports.c.outcome)
    )
    return {(row[0], row[1]): (int(row[2]), row[3]) for row in rows}
