"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from pacs import logs
from pacs.catalog import Catalog
from support import patient_data, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


_ONLY_IN_PRODUCTION = {
    "backup", "isolation", "monitoring", "nginx", "orthanc", "postgres", "scripts",
    "test_explorer.py", "test_explorer_sign_in.py", "test_inbox_rights.py",
    "test_monitor_role.py", "test_roles.py", "test_scripts.py",
}  # fmt: skip
_LONG = {
    "test_archives.py", "test_crashes.py", "test_orthanc.py", "test_process.py", "test_reindex.py",
    "test_reindex_pages.py", "test_samples.py", "test_server.py", "test_several_importers.py",
    "test_store.py",
}  # fmt: skip


# The same examples in every run, on machines of any speed; who searches for new ones runs `make fuzz`.
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of what only production has, and long ones, are marked by where they lie: not for `make test`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here / "chaos"):
            item.add_marker("chaos")
        if item.path.name in _LONG and not item.get_closest_marker("short"):
            item.add_marker("long")
        if (
            _ONLY_IN_PRODUCTION.intersection(item.path.relative_to(here).parts)
            and "e2e_demo" not in item.path.parts
        ):
            item.add_marker("config")


def missing(what: str) -> NoReturn:
    """Skip for want of an optional server; in CI it must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must have it")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session", autouse=True)
def no_patient_data_in_any_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No log line of the whole run holds a sample patient's name or id, or a folder named like one.

    What the services log inside this process goes to one file; tests that start a service as a process
    write its output to a `*.log` under their `tmp_path`.
    """
    folder = tmp_path_factory.getbasetemp()
    with (folder / "in-process.log").open("w", encoding="utf-8") as stream:
        logs.configure("tests", "debug", stream)
        yield
    found = patient_data.in_logs(folder)
    assert not found, f"{len(found)} log lines hold patient data, for example: {found[:3]}"


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
