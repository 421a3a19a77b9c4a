"""What Grafana, as the database role `monitor`, may read of the catalog on PostgreSQL: no patient data.

Not a migration, which runs once: the role may be made later than the catalog, and a restored database may
lack what was granted. `Catalog.migrate` sees to it every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from pacs.catalog.schema import clinics, imports, metadata, studies

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

ROLE = "monitor"
READABLE: dict[Table, tuple[str, ...]] = {
    clinics: ("id", "name", "active"),
    # No folder and no path: both may be named after a patient.
    imports: ("id", "clinic_id", "outcome", "reason", "files", "bytes", "finished_at"),
    studies: ("clinic_id", "state", "series_count", "instance_count", "reserved_at", "changed_at"),
}
"""The columns that dashboards use."""


def grant(connection: Connection) -> None:
    """Give the role exactly these rights, if there is such a role, in the caller's transaction."""
    if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": ROLE}) is None:
        return
    for table in metadata.sorted_tables:
        # Also what was granted by column; a column that is readable no more must not stay so.
        connection.execute(text(f"REVOKE ALL ON {table.name} FROM {ROLE}"))
    for table, columns in READABLE.items():
        connection.execute(text(f"GRANT SELECT ({', '.join(columns)}) ON {table.name} TO {ROLE}"))
