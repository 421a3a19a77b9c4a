"""Removing the oldest rows. An anchor, their last one's number and hash, stays: the chain begins there.

Both databases let rows go that an anchor stands over, and take an anchor only for a row that is there, bears
that hash, and has none before it that is younger than a day (migration 0004).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select

from pacs.catalog.audit.chain import Link, anchor
from pacs.catalog.schema import audit, audit_anchors

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.catalog import Catalog

ACTION = "prune-audit"
_CHUNK = 5000


def describe(to: Link) -> str:
    """How the audit row of a pruning names where it ends."""
    return f"up to row {to.id}, hash {to.hash}"


def prunable(connection: Connection, before: datetime) -> tuple[Link, int] | None:
    """The newest row that precedes every row from `before` or later, and how many go with it."""
    kept = connection.scalar(select(func.min(audit.c.id)).where(audit.c.at >= before))
    older = audit.c.id > anchor(connection).id
    if kept is not None:
        older &= audit.c.id < kept
    row = connection.execute(
        select(audit.c.id, audit.c.hash).where(older).order_by(audit.c.id.desc()).limit(1)
    ).first()
    if row is None:
        return None
    return Link(*row), connection.scalar(select(func.count()).where(older)) or 0


def put_anchor(catalog: Catalog, to: Link, now: datetime) -> None:
    """From now on the chain begins behind this row."""
    with catalog.write() as connection:
        connection.execute(insert(audit_anchors).values(id=to.id, hash=to.hash, pruned_at=now))


def remove_covered(catalog: Catalog, advance: Callable[[int], object] = lambda _rows: None) -> int:
    """Delete what stands before the anchor, some thousand rows a transaction; safe to run again.

    Returns:
        How many rows that were.
    """
    done = 0
    while removed := _remove_chunk(catalog):
        done += removed
        advance(removed)
    return done


def _remove_chunk(catalog: Catalog) -> int:
    with catalog.write() as connection:
        covered = audit.c.id <= anchor(connection).id
        ids = select(audit.c.id).where(covered).order_by(audit.c.id)
        last = connection.scalar(select(func.max(ids.limit(_CHUNK).subquery().c.id)))
        if last is None:
            return 0
        return connection.execute(delete(audit).where(audit.c.id <= last)).rowcount
