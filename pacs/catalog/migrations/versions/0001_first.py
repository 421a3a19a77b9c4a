"""The catalog's first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("username", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "clinic_id", sa.String(length=63), nullable=True, comment="owner of the study, where there is one"
        ),
        sa.Column("study_uid", sa.String(length=64), nullable=True),
        sa.Column("source", sa.Text(), server_default="", nullable=False, comment="address of the client"),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "count",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="events that this row stands for",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_index("ix_audit_subject_study", "audit", ["subject", "study_uid", "at"], unique=False)
    op.create_table(
        "clinics",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=True),
        sa.Column("thresholds", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clinics")),
        sa.UniqueConstraint("ae_title", name=op.f("uq_clinics_ae_title")),
    )
    op.create_table(
        "revocations",
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column(
            "issued_before",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="tokens issued before are refused",
        ),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_revocations")),
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("clinic_id", sa.String(length=63), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False, comment="study folder below the clinic's inbox"),
        sa.Column("study_uid", sa.String(length=64), nullable=True),
        sa.Column("outcome", sa.String(length=7), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "path",
            sa.Text(),
            nullable=True,
            comment="a failed file has a row of its own: its path below the clinic's inbox",
        ),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('stored', 'failed', 'skipped')", name=op.f("ck_imports_outcome")),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name=op.f("fk_imports_clinic_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_index(op.f("ix_imports_finished_at"), "imports", ["finished_at"], unique=False)
    op.create_table(
        "studies",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("clinic_id", sa.String(length=63), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False, comment="as reserved: spaces trimmed"),
        sa.Column("state", sa.String(length=11), nullable=False),
        sa.Column("marked", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refreshed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("settled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("settles_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reserved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("study_date", sa.Text(), server_default="", nullable=False),
        sa.Column("study_time", sa.Text(), server_default="", nullable=False),
        sa.Column("study_id", sa.Text(), server_default="", nullable=False),
        sa.Column("accession_number", sa.Text(), server_default="", nullable=False),
        sa.Column("patient_name_key", sa.Text(), server_default="", nullable=False),
        sa.Column("patient_birth_date", sa.Text(), server_default="", nullable=False),
        sa.Column("patient_sex", sa.Text(), server_default="", nullable=False),
        sa.Column("study_description_key", sa.Text(), server_default="", nullable=False),
        sa.Column("referring_physician_key", sa.Text(), server_default="", nullable=False),
        sa.Column("modalities", sa.Text(), server_default="", nullable=False, comment="as \\CT\\MR\\ "),
        sa.Column("series_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("instance_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "dicom_json",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="one QIDO-RS study, PS3.18 F.2",
        ),
        sa.CheckConstraint(
            "state IN ('provisional', 'confirmed', 'missing', 'deleted')", name=op.f("ck_studies_state")
        ),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name=op.f("fk_studies_clinic_id")),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_studies")),
    )
    op.create_index("ix_studies_accession_number", "studies", ["accession_number"], unique=False)
    op.create_index(
        "ix_studies_clinic_date",
        "studies",
        ["clinic_id", sa.literal_column("study_date DESC"), "study_uid"],
        unique=False,
    )
    op.create_index(
        "ix_studies_date", "studies", [sa.literal_column("study_date DESC"), "study_uid"], unique=False
    )
    op.create_index(
        "ix_studies_dirty",
        "studies",
        ["clinic_id"],
        unique=False,
        sqlite_where=sa.text("marked > refreshed"),
        postgresql_where=sa.text("marked > refreshed"),
    )
    op.create_index("ix_studies_patient_id", "studies", ["patient_id"], unique=False)
    op.create_index(
        "ix_studies_unsettled",
        "studies",
        ["settles_at"],
        unique=False,
        sqlite_where=sa.text("settled = 0"),
        postgresql_where=sa.text("settled = false"),
    )
    op.create_table(
        "series",
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("clinic_id", sa.String(length=63), nullable=False),
        sa.Column("confirmed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name=op.f("fk_series_clinic_id")),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["studies.study_uid"], name=op.f("fk_series_study_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_uid", name=op.f("pk_series")),
    )
    op.create_index(op.f("ix_series_study_uid"), "series", ["study_uid"], unique=False)
    op.create_table(
        "study_access",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("clinic_id", sa.String(length=63), nullable=False),
        sa.Column("until", sa.Date(), nullable=False, comment="to the end of that day, in TZ"),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name=op.f("fk_study_access_clinic_id")),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["studies.study_uid"], name=op.f("fk_study_access_study_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_uid", "clinic_id", name=op.f("pk_study_access")),
    )
