"""What the database's roles may do with the catalog on PostgreSQL, each if there is one of that name.

The owner of the tables migrates, and nobody else signs in as it. Not a migration, which runs once: a role may
be made later than the catalog, and a restored database may lack what was granted. `Catalog.migrate` sees to
it every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from pacs.catalog import monitor
from pacs.catalog.schema import audit, audit_anchors, metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection

SERVICE = "catalog_service"
"""Gateway, importer and the `clinicpacs` command: all rows are theirs, but not the schema, and of the audit
trail they only add to the end."""
PRUNER = "audit_pruner"
"""`clinicpacs audit prune`, for which triggers have rules of their own (migration 0004)."""

_WRITES = "SELECT, INSERT, UPDATE, DELETE"


def _rights(role: str) -> dict[str, str]:
    """What a role may do, by table."""
    if role == monitor.ROLE:
        return {table.name: f"SELECT ({', '.join(columns)})" for table, columns in monitor.READABLE.items()}
    if role == PRUNER:
        return {
            audit.name: "SELECT, DELETE",
            audit_anchors.name: "SELECT, INSERT",
            "alembic_version": "SELECT",
        }
    own = {table.name: _WRITES for table in metadata.sorted_tables}
    return own | {audit.name: "SELECT, INSERT", audit_anchors.name: "SELECT", "alembic_version": "SELECT"}


def grant(connection: Connection) -> None:
    """Give every role exactly its rights, in the caller's transaction; nothing where we are not the owner."""
    if not connection.scalar(
        text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'audit'::regclass")
    ):
        return
    for role in (monitor.ROLE, SERVICE, PRUNER):
        # An installation may have but one role, of whatever name.
        known = "SELECT 1 FROM pg_roles WHERE rolname = :role AND rolname <> current_user"
        if connection.scalar(text(known), {"role": role}) is None:
            continue
        # Also what was granted by column; a column that is readable no more must not stay so.
        for table in [*(each.name for each in metadata.sorted_tables), "alembic_version"]:
            connection.execute(text(f"REVOKE ALL ON {table} FROM {role}"))
        for table, rights in _rights(role).items():
            connection.execute(text(f"GRANT {rights} ON {table} TO {role}"))
        if role == SERVICE:
            connection.execute(text(f"GRANT USAGE ON SEQUENCE imports_id_seq TO {role}"))
