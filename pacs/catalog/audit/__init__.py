"""The audit trail: rows are only ever added, each chained to the one before (`chain`).

The databases themselves refuse everything else (migration 0004), and on PostgreSQL the services' role may
not even ask (`pacs.catalog.roles`). `append` is the last statement of its transaction.
"""

from pacs.catalog.audit.chain import START, Link, anchor, digest, head, iso_utc, pages
from pacs.catalog.audit.trail import AuditEvent, append, extend, recent, recorded_since

__all__ = [
    "START",
    "AuditEvent",
    "Link",
    "anchor",
    "append",
    "digest",
    "extend",
    "head",
    "iso_utc",
    "pages",
    "recent",
    "recorded_since",
]
