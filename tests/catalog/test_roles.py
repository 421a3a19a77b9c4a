"""On PostgreSQL services add to the audit trail and change nothing there; another role prunes it."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import exc as sa_exc
from sqlalchemy import make_url, text

from admin.cli import cli
from pacs.catalog import Catalog, audit, clinics, imports
from pacs.catalog.audit import pruning
from pacs.catalog.audit.verification import verify
from pacs.catalog.imports import ImportRow
from pacs.catalog.roles import PRUNER, SERVICE
from pacs.catalog.schema import metadata
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from support.postgres import Cluster

NORTH = ClinicId("northside")
OLD = datetime(2010, 1, 2, tzinfo=UTC)
ALL = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up this process's logs; the runner closes the stderr that they write to."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def url(postgres_cluster: Cluster) -> Iterator[str]:
    """A catalog of an owner who is no superuser, migrated before the roles were made."""
    url = postgres_cluster.new_database("template0")
    database = make_url(url).database
    with _superuser(postgres_cluster) as connection:
        connection.execute("CREATE ROLE catalog_owner LOGIN")
        connection.execute(f"ALTER DATABASE {database} OWNER TO catalog_owner")
        connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    owned = url.replace("postgres@", "catalog_owner@")
    migrate(owned)
    with _superuser(postgres_cluster) as connection:
        for role in (SERVICE, PRUNER):
            connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {role}")
    migrate(owned)
    yield owned
    postgres_cluster.drop_database(url)
    with _superuser(postgres_cluster) as connection:
        connection.execute(f"DROP ROLE {SERVICE}, {PRUNER}, catalog_owner")


def _superuser(cluster: Cluster) -> psycopg.Connection:
    return psycopg.connect(host=str(cluster.folder), user="postgres", dbname="postgres", autocommit=True)


def migrate(url: str) -> None:
    with closing(Catalog.connect(SecretStr(url))) as catalog:
        catalog.migrate()


def as_role(url: str, role: str) -> Catalog:
    return Catalog.open(SecretStr(url.replace("catalog_owner@", f"{role}@")))


def rights(url: str, role: str) -> dict[str, set[str]]:
    """What a role may do with each table."""
    with closing(Catalog.connect(SecretStr(url))) as catalog, catalog.read() as connection:
        found = connection.execute(
            text(
                "SELECT relname, right_ FROM pg_class, unnest(CAST(:rights AS text[])) AS right_ "
                "WHERE relkind = 'r' "
                "AND relnamespace = 'public'::regnamespace AND has_table_privilege(:role, oid, right_)"
            ),
            {"rights": sorted(ALL), "role": role},
        )
        tables: dict[str, set[str]] = {}
        for table, right in found:
            tables.setdefault(table, set()).add(right)
    return tables


def test_each_role_has_its_rights_and_no_others(url: str) -> None:
    every = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    expected = dict.fromkeys(metadata.tables, every) | {
        "audit": {"SELECT", "INSERT"},
        "audit_anchors": {"SELECT"},
        "alembic_version": {"SELECT"},
    }
    assert rights(url, SERVICE) == expected
    pruner = {
        "audit": {"SELECT", "DELETE"},
        "audit_anchors": {"SELECT", "INSERT"},
        "alembic_version": {"SELECT"},
    }
    assert rights(url, PRUNER) == pruner


def test_a_right_that_somebody_added_is_taken_back(url: str) -> None:
    with closing(Catalog.connect(SecretStr(url))) as catalog, catalog.write() as connection:
        connection.execute(text(f"GRANT ALL ON audit, alembic_version TO {SERVICE}"))
    assert rights(url, SERVICE)["audit"] >= {"UPDATE", "DELETE", "TRUNCATE"}
    migrate(url)
    assert rights(url, SERVICE)["audit"] == {"SELECT", "INSERT"}


@pytest.mark.parametrize("role", [SERVICE, PRUNER])
def test_neither_changes_the_trail_nor_takes_its_guards_away(url: str, role: str) -> None:
    with closing(as_role(url, SERVICE)) as catalog, catalog.write() as connection:
        audit.append(connection, audit.AuditEvent("x", "nora"), datetime.now(UTC))
    statements = [
        "UPDATE audit SET detail = 'x'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "DROP TRIGGER audit_refuse ON audit",
        "ALTER TABLE audit DISABLE TRIGGER USER",
        "ALTER FUNCTION audit_refuse() RENAME TO audit_allow",
        "CREATE TABLE public.own (id int)",
        "CREATE TEMP TABLE audit_anchors (id int)",
        "SET session_replication_role = replica",
        "UPDATE audit_anchors SET id = 1",
        "DELETE FROM audit_anchors",
        "UPDATE alembic_version SET version_num = '0003'",
    ]
    with closing(as_role(url, role)) as catalog:
        for statement in statements:
            with pytest.raises(sa_exc.ProgrammingError), catalog.write() as connection:
                connection.execute(text(statement))


def test_the_services_role_does_what_services_do(url: str) -> None:
    with closing(as_role(url, SERVICE)) as catalog:
        with catalog.write() as connection:
            clinics.add(connection, NORTH, "Northside", OLD)
            row = ImportRow(NORTH, "a", None, "stored", 1, 1)
            imports.append(connection, [row], OLD)
            audit.append(connection, audit.AuditEvent("x", "nora"), OLD)
        catalog.migrate()
        catalog.check_version()
        with catalog.snapshot() as connection:
            assert verify(connection).rows == 1


def test_the_pruners_role_prunes_and_the_services_does_not(url: str) -> None:
    with closing(as_role(url, SERVICE)) as service, closing(as_role(url, PRUNER)) as pruner:
        with service.write() as connection:
            audit.extend(connection, [audit.AuditEvent("x", "nora")] * 3, OLD)
        with service.read() as connection:
            found = pruning.prunable(connection, OLD + timedelta(days=1))
        assert found
        to, count = found
        assert (to.id, count) == (3, 3)
        with pytest.raises(sa_exc.ProgrammingError):
            pruning.put_anchor(service, to, OLD)
        with service.write() as connection:
            event = audit.AuditEvent(pruning.ACTION, "os:ada", detail=pruning.describe(to))
            audit.append(connection, event, datetime.now(UTC))
        pruning.put_anchor(pruner, to, OLD)
        with pytest.raises(sa_exc.ProgrammingError):
            pruning.remove_covered(service)
        assert pruning.remove_covered(pruner) == 3
        with service.snapshot() as connection:
            verdict = verify(connection)
        assert (verdict.is_whole, verdict.rows) == (True, 1)


def test_commands_prune_as_the_pruner_and_say_what_it_takes(url: str, tmp_path: Path) -> None:
    with closing(as_role(url, SERVICE)) as service, service.write() as connection:
        audit.extend(connection, [audit.AuditEvent("x", "nora")] * 3, OLD)
    settings: dict[str, str | None] = {
        "DATA_PATH": str(tmp_path),
        "DATABASE_URL": url.replace("catalog_owner@", f"{SERVICE}@"),
    }

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, words, env=settings, catch_exceptions=False)

    assert run("migrate").exit_code == 0
    refused = run("audit", "prune")
    (sentence,) = refused.stderr.strip().splitlines()
    assert (refused.exit_code, "set AUDIT_PRUNE_DATABASE_URL to" in sentence) == (2, True)
    settings["AUDIT_PRUNE_DATABASE_URL"] = url.replace("catalog_owner@", f"{PRUNER}@")
    settings["AUDIT_KEEP_DAYS"] = "30"
    assert run("audit", "prune").stdout == "3 rows older than 30 days deleted\n"
    assert run("audit", "verify").exit_code == 0
    with closing(Catalog.connect(SecretStr(url))) as owner, owner.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    refused = run("migrate")
    assert (refused.exit_code, "does not own the catalog" in refused.stderr) == (2, True)
