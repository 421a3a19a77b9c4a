"""Inserts that meet a row of the same key, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


def insert_if_absent(connection: Connection, table: Table, **values: Any) -> bool:
    """One atomic insert; False when the key is taken."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    result = connection.execute(
        dialect.insert(table).values(**values).on_conflict_do_nothing(),
        # Of an INSERT, SQLAlchemy forgets the count otherwise (-1 on PostgreSQL).
        execution_options={"preserve_rowcount": True},
    )
    return result.rowcount > 0


def upsert(connection: Connection, table: Table, **values: Any) -> None:
    """One row, in the place of what has its key; `values` hold the whole key."""
    if not insert_if_absent(connection, table, **values):
        key = [column == values[column.name] for column in table.primary_key]
        connection.execute(update(table).where(*key).values(**values))
