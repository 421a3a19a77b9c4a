"""What Grafana, as the database role `monitor`, may read of the catalog on PostgreSQL: no patient data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs.catalog.schema import clinics, imports, studies

if TYPE_CHECKING:
    from sqlalchemy import Table

ROLE = "monitor"
READABLE: dict[Table, tuple[str, ...]] = {
    clinics: ("id", "name", "active"),
    # No folder and no path: both may be named after a patient.
    imports: ("id", "clinic_id", "outcome", "reason", "files", "bytes", "finished_at"),
    studies: ("clinic_id", "state", "series_count", "instance_count", "reserved_at", "changed_at"),
}
"""The columns that dashboards use."""
