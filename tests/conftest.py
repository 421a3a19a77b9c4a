"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from pacs.catalog import Catalog

sys.path.insert(0, str(Path(__file__).parent))

from support import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


def missing(what: str) -> None:
    """Skip for want of an optional server; in CI it must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must have it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL server of this process's own."""
    binaries = postgres.binaries()
    if binaries is None:
        missing("PostgreSQL's server")
    cluster = postgres.Cluster.start(binaries)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog."""
    path = tmp_path_factory.mktemp("catalog") / "template.db"
    Catalog.open(SecretStr(f"sqlite:///{path}")).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """DATABASE_URL of an empty, migrated catalog: once on SQLite, once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "catalog.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    cluster: postgres.Cluster = request.getfixturevalue("postgres_cluster")
    url = cluster.new_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    """An empty catalog, once on SQLite and once on PostgreSQL."""
    opened = Catalog.open(SecretStr(database_url))
    yield opened
    opened.close()


@pytest.fixture
def sqlite_catalog(sqlite_template: Path, tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog on SQLite, for tests to which the database does not matter."""
    path = tmp_path / "only-catalog.db"
    shutil.copyfile(sqlite_template, path)
    opened = Catalog.open(SecretStr(f"sqlite:///{path}"))
    yield opened
    opened.close()
