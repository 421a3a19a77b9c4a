"""The catalog's tables. A change here needs a migration under ``migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
    true,
)

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC: SQLite has no time zones of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a naive datetime is a bug of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_UID = String(64)
_CLINIC = String(63)
# SQLite numbers rows by itself only where the key is exactly INTEGER.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")

clinics = Table(
    "clinics",
    metadata,
    Column("id", _CLINIC, primary_key=True),
    Column("name", Text, nullable=False),
    Column("ae_title", String(16), unique=True),
    Column("active", Boolean, nullable=False, server_default=true()),
    Column("contact", Text),
    Column("thresholds", JSON),
    Column("created_at", UtcDateTime, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("study_uid", _UID, primary_key=True),
    Column("clinic_id", _CLINIC, ForeignKey("clinics.id"), nullable=False),
    Column("patient_id", Text, nullable=False, comment="as reserved: spaces trimmed"),
    Column("state", String(11), nullable=False),
    # Marked before a byte is sent, refreshed from the archive after: dirty while they differ. A counter,
    # because a refresh that began before the latest mark must not clear it.
    Column("marked", Integer, nullable=False, server_default="0"),
    Column("refreshed", Integer, nullable=False, server_default="0"),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("settled", Boolean, nullable=False, server_default=false()),
    Column("settles_at", UtcDateTime),
    Column("reserved_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    # The worklist: a projection of the archive. `_key` columns are folded (pacs.text.fold).
    Column("study_date", Text, nullable=False, server_default=""),
    Column("study_time", Text, nullable=False, server_default=""),
    Column("study_id", Text, nullable=False, server_default=""),
    Column("accession_number", Text, nullable=False, server_default=""),
    Column("patient_name_key", Text, nullable=False, server_default=""),
    Column("patient_birth_date", Text, nullable=False, server_default=""),
    Column("patient_sex", Text, nullable=False, server_default=""),
    Column("study_description_key", Text, nullable=False, server_default=""),
    Column("referring_physician_key", Text, nullable=False, server_default=""),
    Column("modalities", Text, nullable=False, server_default="", comment=r"as \CT\MR\ "),
    Column("series_count", Integer, nullable=False, server_default="0"),
    Column("instance_count", Integer, nullable=False, server_default="0"),
    Column(
        "terms", Text, nullable=False, server_default="", comment="of the columns that are searched by parts"
    ),
    Column("dicom_json", Text, nullable=False, server_default="", comment="one QIDO-RS study, PS3.18 F.2"),
    CheckConstraint("state IN ('provisional', 'confirmed', 'missing', 'deleted')", name="state"),
)
LISTED = text("studies.state = 'confirmed' AND studies.dicom_json <> ''")
"""What lists show; literal, so that the databases see that the indexes of listed studies hold all of it."""
# The indexes of the listed studies and of their terms are made by migration 0002: each database has its own.
Index("ix_studies_patient_id", studies.c.patient_id)
Index("ix_studies_accession_number", studies.c.accession_number)
Index(
    "ix_studies_dirty",
    studies.c.clinic_id,
    sqlite_where=studies.c.marked > studies.c.refreshed,
    postgresql_where=studies.c.marked > studies.c.refreshed,
)
Index(
    "ix_studies_unsettled",
    studies.c.settles_at,
    sqlite_where=studies.c.settled == false(),
    postgresql_where=studies.c.settled == false(),
)

series = Table(
    "series",
    metadata,
    Column("series_uid", _UID, primary_key=True),
    Column(
        "study_uid", _UID, ForeignKey("studies.study_uid", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("clinic_id", _CLINIC, ForeignKey("clinics.id"), nullable=False),
    Column("confirmed", Boolean, nullable=False, server_default=false()),
)

study_access = Table(
    "study_access",
    metadata,
    Column("study_uid", _UID, ForeignKey("studies.study_uid", ondelete="CASCADE"), primary_key=True),
    Column("clinic_id", _CLINIC, ForeignKey("clinics.id"), primary_key=True),
    Column("until", Date, nullable=False, comment="to the end of that day, in TZ"),
)

transfers = Table(
    "transfers",
    metadata,
    # Only those under way: the archive's instances may still say that they are the old owner's.
    Column("study_uid", _UID, ForeignKey("studies.study_uid", ondelete="CASCADE"), primary_key=True),
    Column("from_clinic", _CLINIC, ForeignKey("clinics.id"), nullable=False),
    Column("to_clinic", _CLINIC, ForeignKey("clinics.id"), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    # The last one of each clinic.
    Column("clinic_id", _CLINIC, ForeignKey("clinics.id"), primary_key=True),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("files", Integer, nullable=False),
    Column("missing", Integer, nullable=False, comment="files whose image the archive does not have"),
    Column("different", Integer, nullable=False, comment="files whose pixels are others in the archive"),
)

imports = Table(
    "imports",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("clinic_id", _CLINIC, ForeignKey("clinics.id"), nullable=False),
    Column("folder", Text, nullable=False, comment="study folder below the clinic's inbox"),
    Column("study_uid", _UID),
    Column("outcome", String(7), nullable=False),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("path", Text, comment="a failed file has a row of its own: its path below the clinic's inbox"),
    Column("reason", String(64)),
    Column("finished_at", UtcDateTime, nullable=False, index=True),
    CheckConstraint("outcome IN ('stored', 'failed', 'skipped')", name="outcome"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("subject", String(255), primary_key=True),
    Column("issued_before", UtcDateTime, nullable=False, comment="tokens issued before are refused"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("action", String(32), nullable=False),
    Column("allowed", Boolean, nullable=False),
    Column("subject", String(255), nullable=False),
    Column("username", Text, nullable=False, server_default=""),
    Column("clinic_id", _CLINIC, comment="owner of the study, where there is one"),
    Column("study_uid", _UID),
    Column("source", Text, nullable=False, server_default="", comment="address of the client"),
    Column("detail", Text, nullable=False, server_default=""),
    Column("count", Integer, nullable=False, server_default="1", comment="events that this row stands for"),
    Column("hash", String(64), nullable=False, server_default=""),
)
Index("ix_audit_subject_study", audit.c.subject, audit.c.study_uid, audit.c.at)

audit_anchors = Table(
    "audit_anchors",
    metadata,
    # The last row of each pruning: the chain of hashes begins at the newest of them.
    Column("id", _SERIAL, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("pruned_at", UtcDateTime, nullable=False),
)
