"""The catalog's connection: versions, migrations, faults."""

from __future__ import annotations

import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import text

from pacs.catalog import Catalog, CatalogUnavailableError, CatalogVersionError
from pacs.catalog.schema import metadata

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Cluster


def test_migrations_make_exactly_the_schema_that_the_code_uses(catalog: Catalog) -> None:
    def is_comparable(_object: object, name: str | None, *_: object) -> bool:
        # Each database has its own, and so they are in the migration alone.
        return not (name or "").startswith(("study_terms", "ix_studies_terms", "ix_studies_listed"))

    with catalog.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_comparable})
        assert compare_metadata(context, metadata) == []


def test_a_catalog_of_a_newer_version_is_refused_in_one_sentence(catalog: Catalog, database_url: str) -> None:
    with catalog.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogVersionError, match="newer version of clinicpacs"):
        Catalog.open(SecretStr(database_url))


def test_an_unmigrated_postgresql_catalog_names_the_command(postgres_cluster: Cluster) -> None:
    url = postgres_cluster.new_database("template0")
    with pytest.raises(CatalogVersionError, match="clinicpacs migrate"):
        Catalog.open(SecretStr(url))
    postgres_cluster.drop_database(url)


def test_an_sqlite_catalog_migrates_itself_once_although_several_open_it_at_the_same_time(
    tmp_path: Path,
) -> None:
    url = SecretStr(f"sqlite:///{tmp_path}/new/catalog.db")
    faults: list[BaseException] = []

    def open_it() -> None:
        try:
            Catalog.open(url).close()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_an_sqlite_catalog_is_for_its_owner_alone(tmp_path: Path) -> None:
    Catalog.open(SecretStr(f"sqlite:///{tmp_path}/catalog.db")).close()
    assert stat.S_IMODE((tmp_path / "catalog.db").stat().st_mode) == 0o600


def test_a_locked_catalog_is_unavailable_and_names_no_statement(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / "only-catalog.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with sqlite_catalog.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=1")
    with pytest.raises(CatalogUnavailableError) as caught, sqlite_catalog.write():
        pass
    other.close()
    assert str(caught.value) == "the catalog cannot be used: OperationalError SQLITE_BUSY"


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(CatalogUnavailableError, match="SQLITE_NOTADB"):
        Catalog.open(SecretStr(f"sqlite:///{tmp_path}/catalog.db"))


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailableError):
        Catalog.open(SecretStr(f"postgresql+psycopg://nobody@/none?host={tmp_path}"))


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://somewhere/catalog", "nosuch://x"])
def test_a_url_of_no_database_is_refused(url: str) -> None:
    with pytest.raises(CatalogVersionError, match="DATABASE_URL"):
        Catalog.open(SecretStr(url))


def test_a_write_that_fails_leaves_nothing_behind(catalog: Catalog) -> None:
    def write_and_fail() -> None:
        with catalog.write() as connection:
            connection.execute(
                text("INSERT INTO clinics (id, name, created_at) VALUES ('x', 'X', '2026-01-01')")
            )
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_fail()
    with catalog.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM clinics")) == 0


def test_a_table_that_is_missing_makes_the_catalog_unavailable(catalog: Catalog) -> None:
    """As while a restore puts the tables back: whoever waits for the catalog goes on by itself."""
    for attempt in (catalog.read, catalog.write):
        with pytest.raises(CatalogUnavailableError), attempt() as connection:
            connection.execute(text("SELECT * FROM missing"))
