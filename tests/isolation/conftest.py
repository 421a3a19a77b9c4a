"""The platform that is attacked: real servers, studies of two clinics, a shared one and a stray one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support import platform as platforms
from support.nginx import missing_program
from support.orthanc import require_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.platform import Platform
    from support.postgres import Cluster


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """nginx and Orthanc are optional, but not in CI."""
    require_installed()
    if what := missing_program():
        if os.environ.get("CI"):
            pytest.fail(f"{what} is not installed, and CI must have it")
        pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def sqlite_platform(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("isolation")
    with platforms.running(folder, platforms.empty_catalog(folder, sqlite_template)) as platform:
        yield platform


@pytest.fixture(scope="session")
def postgresql_platform(
    tmp_path_factory: pytest.TempPathFactory, postgres_cluster: Cluster
) -> Iterator[Platform]:
    url = postgres_cluster.new_database()
    with platforms.running(tmp_path_factory.mktemp("isolation"), url) as platform:
        yield platform
    postgres_cluster.drop_database(url)


@pytest.fixture
def platform(sqlite_platform: Platform) -> Platform:
    """Shared by all tests: who turns something turns it back. Its catalog is in SQLite."""
    return sqlite_platform


@pytest.fixture(params=["sqlite", "postgresql"])
def any_platform(request: pytest.FixtureRequest) -> Platform:
    """Once with the catalog in SQLite, once in PostgreSQL."""
    found: Platform = request.getfixturevalue(f"{request.param}_platform")
    return found
