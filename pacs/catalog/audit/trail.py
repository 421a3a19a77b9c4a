"""Adding rows, and looking at the latest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, insert, select

from pacs.catalog.audit.chain import Link, digest, head
from pacs.catalog.schema import audit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.ids import ClinicId, Uid

_APPEND_LOCK = 0x636C_7061_6175  # an arbitrary number that only appends use


@dataclass(frozen=True)
class AuditEvent:
    """Who did what to which study, from where, and whether it was allowed."""

    action: str
    subject: str
    username: str = ""
    clinic_id: ClinicId | None = None
    study_uid: Uid | None = None
    source: str = ""
    allowed: bool = True
    detail: str = ""
    count: int = 1


def append(connection: Connection, event: AuditEvent, now: datetime) -> None:
    """Add one row; it is durable once the transaction is.

    Let it be the last statement of its transaction: from here to the commit nobody else can append, and
    whoever waits for a row of this transaction while holding that turn would wait for ever.
    """
    extend(connection, (event,), now)


def extend(connection: Connection, events: Iterable[AuditEvent], now: datetime) -> None:
    """Add several rows at the cost of one turn; as `append`, the last statement of its transaction."""
    events = list(events)
    if not events:
        return
    if connection.dialect.name == "postgresql":
        # A statement of its own: the next one then sees what the one before in the queue has committed.
        connection.execute(select(func.pg_advisory_xact_lock(_APPEND_LOCK)))
    rows, last = [], head(connection)
    for event in events:
        row = {"id": last.id + 1, "at": now, **_columns(event)}
        last = Link(last.id + 1, digest(last.hash, row))
        rows.append({**row, "hash": last.hash})
    connection.execute(insert(audit), rows)


def _columns(event: AuditEvent) -> dict[str, Any]:
    return {**vars(event), "subject": event.subject[:255]}


def recorded_since(
    connection: Connection, action: str, subject: str, study_uid: Uid, *, since: datetime, until: datetime
) -> bool:
    """Whether this subject's allowed access to the study is on record since then.

    `until` leaves out rows from the future, of a clock that was set back since.
    """
    row = (
        exists()
        .where(
            audit.c.subject == subject[:255],
            audit.c.study_uid == study_uid,
            audit.c.at.between(since, until),
            audit.c.action == action,
            audit.c.allowed,
        )
        .select()
    )
    return bool(connection.scalar(row))


def recent(connection: Connection, limit: int) -> list[dict[str, object]]:
    """The latest rows, newest first."""
    rows = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]
