"""The audit trail is chained by hashes, and both databases refuse to change or to delete what is on record."""

import sqlalchemy as sa
from alembic import op

from pacs.catalog.audit import chain
from pacs.catalog.schema import UtcDateTime

revision = "0004"
down_revision = "0003"

_CHUNK = 2000
_APPEND_ONLY = "the audit trail is append-only"
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# The same rules on both databases, of the row `{row}`.
_LAST_ANCHOR = "coalesce((SELECT max(id) FROM audit_anchors), 0)"
# A service of an older version that still runs during an upgrade writes no hash: its row would break the chain for good.
_NOT_LAST = (
    f"{{row}}.id <= {_LAST_ANCHOR} OR {{row}}.id <= coalesce((SELECT max(id) FROM audit), 0) "
    "OR length({row}.hash) <> 64"
)
_NOT_PRUNED = f"{{row}}.id > {_LAST_ANCHOR}"
# Whoever prunes cannot use it to hide what was done today.
_NO_ANCHOR = (
    f"{{row}}.id <= {_LAST_ANCHOR} "
    "OR NOT EXISTS (SELECT 1 FROM audit WHERE id = {row}.id AND hash = {row}.hash) "
    "OR EXISTS (SELECT 1 FROM audit WHERE id <= {row}.id AND at > {yesterday})"
)


def upgrade() -> None:
    op.add_column("audit", sa.Column("hash", sa.String(length=64), server_default="", nullable=False))
    op.create_table(
        "audit_anchors",
        sa.Column("id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_anchors")),
    )
    _chain(op.get_bind())
    if op.get_bind().dialect.name == "sqlite":
        _refuse_on_sqlite()
    else:
        _refuse_on_postgresql()


def _chain(connection: sa.Connection) -> None:
    audit = sa.Table("audit", sa.MetaData(), sa.Column("at", UtcDateTime), autoload_with=connection)
    rows = sa.select(audit).order_by(audit.c.id).limit(_CHUNK)
    update = sa.update(audit).where(audit.c.id == sa.bindparam("row")).values(hash=sa.bindparam("found"))
    previous, last = chain.START.hash, None
    while chunk := connection.execute(rows if last is None else rows.where(audit.c.id > last)).mappings().all():
        last, found = chunk[-1]["id"], []
        for row in chunk:
            previous = chain.digest(previous, row)
            found.append({"row": row["id"], "found": previous})
        connection.execute(update, found)


def _refuse_on_sqlite() -> None:
    yesterday = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 day')"
    for table, event, condition in (
        ("audit", "INSERT", _NOT_LAST.format(row="new")),
        ("audit", "UPDATE", "true"),
        ("audit", "DELETE", _NOT_PRUNED.format(row="old")),
        ("audit_anchors", "INSERT", _NO_ANCHOR.format(row="new", yesterday=yesterday)),
        ("audit_anchors", "UPDATE", "true"),
        ("audit_anchors", "DELETE", "true"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_{event.lower()} BEFORE {event} ON {table} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
        )


def _refuse_on_postgresql() -> None:
    for name, condition in (
        ("audit_refuse", "true"),
        ("audit_insert", _NOT_LAST.format(row="NEW")),
        ("audit_delete", _NOT_PRUNED.format(row="OLD")),
        ("audit_anchors_insert", _NO_ANCHOR.format(row="NEW", yesterday="now() - interval '1 day'")),
    ):
        _make_function(name, condition)
    for table, events, name in (
        ("audit", "UPDATE OR TRUNCATE", "audit_refuse"),
        ("audit_anchors", "UPDATE OR DELETE OR TRUNCATE", "audit_refuse"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
    for table, event in (("audit", "INSERT"), ("audit", "DELETE"), ("audit_anchors", "INSERT")):
        name = f"{table}_{event.lower()}"
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")


def _make_function(name: str, condition: str) -> None:
    # Temporary tables last: somebody's own one of that name must not stand for the real one.
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$ "
        f"BEGIN IF {condition} THEN RAISE EXCEPTION '{_APPEND_ONLY}' USING ERRCODE = 'insufficient_privilege'; "
        "END IF; RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$"
    )
