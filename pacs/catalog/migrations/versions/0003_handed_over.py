"""Studies on their way to another clinic, and what the last verification of each clinic's files found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "transfers",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("from_clinic", sa.String(length=63), nullable=False),
        sa.Column("to_clinic", sa.String(length=63), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["studies.study_uid"], name=op.f("fk_transfers_study_uid"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["from_clinic"], ["clinics.id"], name=op.f("fk_transfers_from_clinic")),
        sa.ForeignKeyConstraint(["to_clinic"], ["clinics.id"], name=op.f("fk_transfers_to_clinic")),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_transfers")),
    )
    op.create_table(
        "verifications",
        sa.Column("clinic_id", sa.String(length=63), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column(
            "missing", sa.Integer(), nullable=False, comment="files whose image the archive does not have"
        ),
        sa.Column(
            "different", sa.Integer(), nullable=False, comment="files whose pixels are others in the archive"
        ),
        sa.ForeignKeyConstraint(["clinic_id"], ["clinics.id"], name=op.f("fk_verifications_clinic_id")),
        sa.PrimaryKeyConstraint("clinic_id", name=op.f("pk_verifications")),
    )
