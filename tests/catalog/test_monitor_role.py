"""The role `monitor` reads counts and times of the catalog, and nothing about patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from pacs.catalog import Catalog
from pacs.catalog.monitor import READABLE, ROLE
from pacs.catalog.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Cluster

_EVERY_COLUMN = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]
_MAY_READ = {(table.name, column) for table, columns in READABLE.items() for column in columns}
_OF_PATIENTS = {
    "patient",
    "folder",
    "path",
    "dicom_json",
    "accession",
    "description",
    "physician",
    "uid",
    "subject",
}


@pytest.fixture
def url(postgres_cluster: Cluster) -> Iterator[str]:
    """A catalog that was migrated before the role was made, of an owner who is no superuser."""
    url = postgres_cluster.new_database("template0")
    database = make_url(url).database
    with _connect(postgres_cluster, "postgres", "postgres") as connection:
        connection.execute("CREATE ROLE catalog_owner LOGIN")
        connection.execute(f"ALTER DATABASE {database} OWNER TO catalog_owner")
        connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    owned = url.replace("postgres@", "catalog_owner@")
    _migrate(owned)
    with _connect(postgres_cluster, "postgres", "postgres") as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN")
        connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {ROLE}")
    yield owned
    postgres_cluster.drop_database(url)
    with _connect(postgres_cluster, "postgres", "postgres") as connection:
        connection.execute(f"DROP ROLE {ROLE}, catalog_owner")


def _migrate(url: str) -> None:
    catalog = Catalog.connect(SecretStr(url))
    catalog.migrate()
    catalog.close()


def _connect(cluster: Cluster, user: str, database: str) -> psycopg.Connection:
    return psycopg.connect(host=str(cluster.folder), user=user, dbname=database, autocommit=True)


def _readable(cluster: Cluster, url: str) -> set[tuple[str, str]]:
    """The columns that the role really reads, each tried."""
    found = set()
    with _connect(cluster, ROLE, str(make_url(url).database)) as connection:
        for table, column in _EVERY_COLUMN:
            try:
                connection.execute(f'SELECT "{column}" FROM {table}')
            except psycopg.errors.InsufficientPrivilege:
                continue
            found.add((table, column))
    return found


def test_a_migration_gives_a_role_made_later_exactly_its_columns(postgres_cluster: Cluster, url: str) -> None:
    assert _readable(postgres_cluster, url) == set()
    _migrate(url)
    assert _readable(postgres_cluster, url) == _MAY_READ


def test_a_right_of_former_times_is_taken_back(postgres_cluster: Cluster, url: str) -> None:
    with _connect(postgres_cluster, "catalog_owner", str(make_url(url).database)) as connection:
        connection.execute(f"GRANT SELECT ON studies TO {ROLE}")
        connection.execute(f"GRANT SELECT (folder) ON imports TO {ROLE}")
    _migrate(url)
    assert _readable(postgres_cluster, url) == _MAY_READ


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO clinics (id, name, created_at) VALUES ('northside', 'Northside', now())",
        "UPDATE clinics SET active = false",
        "DELETE FROM imports",
        "SELECT * FROM alembic_version",
        "SELECT * FROM studies",
        "CREATE TABLE own (id int)",
    ],
)
def test_the_role_changes_nothing_and_reads_no_whole_row(
    postgres_cluster: Cluster, url: str, statement: str
) -> None:
    _migrate(url)
    with (
        _connect(postgres_cluster, ROLE, str(make_url(url).database)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_no_readable_column_can_hold_patient_data() -> None:
    assert [pair for pair in _MAY_READ for word in _OF_PATIENTS if word in pair[1]] == []


def test_without_the_role_a_migration_is_done_all_the_same(catalog: Catalog) -> None:
    catalog.migrate()
    with catalog.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM clinics")).scalar() == 0
