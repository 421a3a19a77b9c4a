"""Lists in constant time: terms to find a study by, answers prepared, indexes of what is listed alone."""

import json

import sqlalchemy as sa
from alembic import op

from pacs.catalog import prepared, terms

revision = "0002"
down_revision = "0001"

_CHUNK = 1000
# Each term twice, alone and as the clinic's: what others have in plenty must not be read through.
_INDEXED = "{0}terms || replace(' ' || {0}terms, ' ', ' ' || {0}clinic_id || '_')"
_LISTED = sa.text("state = 'confirmed' AND dicom_json <> ''")


def upgrade() -> None:
    comment = "of the columns that are searched by parts"
    op.add_column("studies", sa.Column("terms", sa.Text(), server_default="", nullable=False, comment=comment))
    _rewrite(op.get_bind())
    op.drop_index("ix_studies_clinic_date", "studies")
    op.drop_index("ix_studies_date", "studies")
    if op.get_bind().dialect.name == "sqlite":
        _index_on_sqlite()
    else:
        _index_on_postgresql()


def _rewrite(connection: sa.Connection) -> None:
    studies = sa.Table("studies", sa.MetaData(), autoload_with=connection)
    rows = sa.select(studies).where(studies.c.dicom_json != "").order_by(studies.c.study_uid).limit(_CHUNK)
    update = (
        sa.update(studies)
        .where(studies.c.study_uid == sa.bindparam("uid"))
        .values(terms=sa.bindparam("found"), dicom_json=sa.bindparam("answer"))
    )
    last = ""
    while chunk := connection.execute(rows.where(studies.c.study_uid > last)).mappings().all():
        last = chunk[-1]["study_uid"]
        connection.execute(
            update,
            [
                {
                    "uid": row["study_uid"],
                    "found": terms.of_row(row),
                    "answer": prepared.prepare(row["study_uid"], json.loads(row["dicom_json"]), row),
                }
                for row in chunk
            ],
        )


def _index_lists(*more: str) -> None:
    newest_first = [sa.literal_column("study_date DESC"), sa.literal_column("study_time DESC"), "study_uid"]
    for name, columns in (
        ("ix_studies_listed_of_clinic", ["clinic_id", *newest_first, *more]),
        ("ix_studies_listed", [*newest_first, *more]),
    ):
        op.create_index(name, "studies", columns, sqlite_where=_LISTED, postgresql_where=_LISTED)


def _index_on_postgresql() -> None:
    # No more columns: its indexes take no long values, and a name may be one.
    _index_lists()
    # Without a pending list, which each search would read through.
    op.execute(
        "CREATE INDEX ix_studies_terms ON studies "
        f"USING gin (string_to_array({_INDEXED.format('')}, ' ')) WITH (fastupdate = off)"
    )


def _index_on_sqlite() -> None:
    # What is searched most is compared without a look at the row, of which a page holds only two or three.
    _index_lists(
        "modalities", "patient_id", "accession_number", "patient_name_key", "study_description_key"
    )
    op.execute(f"CREATE VIEW study_terms_source AS SELECT rowid AS id, {_INDEXED.format('')} AS terms FROM studies")
    # No positions and no sizes are kept, only whether a term is there.
    op.execute(
        "CREATE VIRTUAL TABLE study_terms USING fts5(terms, content='study_terms_source', content_rowid='id', "
        "detail=none, columnsize=0, tokenize='ascii tokenchars ''-_''')"
    )
    added = f"INSERT INTO study_terms (rowid, terms) VALUES (new.rowid, {_INDEXED.format('new.')});"
    removed = (
        "INSERT INTO study_terms (study_terms, rowid, terms) "
        f"VALUES ('delete', old.rowid, {_INDEXED.format('old.')});"
    )
    changed = "WHEN old.clinic_id <> new.clinic_id OR old.terms <> new.terms "
    for event, condition, work in (
        ("INSERT", "", added),
        ("DELETE", "", removed),
        ("UPDATE OF clinic_id, terms", changed, removed + added),
    ):
        name = f"study_terms_{event.split()[0].lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON studies {condition}BEGIN {work} END")
    op.execute("INSERT INTO study_terms (study_terms) VALUES ('rebuild')")
