"""A platform on one machine, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from support.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.catalog import Catalog


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up this process's logs; the runner closes the stderr that they write to."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def site(tmp_path: Path, catalog: Catalog, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A platform, once on SQLite and once on PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    return Site.at(tmp_path / "data", catalog, database_url)


@pytest.fixture
def sqlite_site(tmp_path: Path, sqlite_catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A platform on SQLite, for tests to which the database does not matter."""
    monkeypatch.chdir(tmp_path)
    return Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")
