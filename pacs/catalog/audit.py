"""The audit trail: rows are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, insert, select

from pacs.catalog.schema import audit

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.ids import ClinicId, Uid


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
    """Add one row; it is durable once the transaction is."""
    connection.execute(
        insert(audit).values(
            at=now,
            action=event.action,
            allowed=event.allowed,
            subject=event.subject[:255],
            username=event.username,
            clinic_id=event.clinic_id,
            study_uid=event.study_uid,
            source=event.source,
            detail=event.detail,
            count=event.count,
        )
    )


def recorded_since(
    connection: Connection, action: str, subject: str, study_uid: Uid, since: datetime
) -> bool:
    """Whether this subject's allowed access to the study is on record since then."""
    row = (
        exists()
        .where(
            audit.c.subject == subject[:255],
            audit.c.study_uid == study_uid,
            audit.c.at >= since,
            audit.c.action == action,
            audit.c.allowed,
        )
        .select()
    )
    return bool(connection.scalar(row))


def recent(connection: Connection, limit: int) -> list[dict[str, object]]:
    """The latest rows, newest first."""
    rows = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's documented way to a dict
