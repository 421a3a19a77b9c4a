"""Tokens that are refused although they have not expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs.catalog.inserting import upsert
from pacs.catalog.schema import revocations

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


def revoke(connection: Connection, subject: str, now: datetime) -> None:
    """Refuse all tokens of this subject that were issued before now."""
    upsert(connection, revocations, subject=subject, issued_before=now)
