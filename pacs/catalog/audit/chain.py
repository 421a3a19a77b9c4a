"""What binds each audit row to the one before: SHA-256 over that one's hash and the row as JSON.

The JSON has the row's columns but the hash, keys sorted, no spaces, ASCII only, the time in UTC with
microseconds. Anyone can compute it from an export, without this program: docs/ADMIN.md shows how.

Migration 0004 calls this: what it reads of a row must have been there then.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from pacs.catalog.schema import audit, audit_anchors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

_HASHED = (
    "id", "at", "action", "allowed", "subject", "username",
    "clinic_id", "study_uid", "source", "detail", "count",
)  # fmt: skip
_TO_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_PAGE = 2000


class Link(NamedTuple):
    """A row's number and its hash."""

    id: int
    hash: str


START = Link(0, "0" * 64)
"""What the first row of all is chained to."""


def digest(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a row that stands behind one with the hash `previous`, in hexadecimal digits."""
    values = {name: row[name] for name in _HASHED} | {"at": iso_utc(row["at"])}
    return hashlib.sha256(f"{previous}{_TO_JSON(values)}".encode("ascii")).hexdigest()


def iso_utc(time: datetime) -> str:
    """A time in the one form that is hashed, equal on every database."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def anchor(connection: Connection) -> Link:
    """Where the chain begins: the last row that was pruned, or `START`."""
    columns = select(audit_anchors.c.id, audit_anchors.c.hash)
    row = connection.execute(columns.order_by(audit_anchors.c.id.desc()).limit(1)).first()
    return Link(*row) if row else START


def head(connection: Connection) -> Link:
    """The newest row: what the next one is chained to."""
    row = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    return Link(*row) if row else anchor(connection)


def pages(
    connection: Connection, *conditions: ColumnElement[bool], after: int = 0, size: int = _PAGE
) -> Iterator[list[dict[str, Any]]]:
    """The rows behind the one of number `after`, oldest first, `size` at a time."""
    rows = select(audit).where(*conditions).order_by(audit.c.id).limit(size)
    while page := [dict(row) for row in connection.execute(rows.where(audit.c.id > after)).mappings()]:
        yield page
        after = page[-1]["id"]
