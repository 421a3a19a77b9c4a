"""Fixtures of the importer's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.importing import NORTH, SOUTH, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.catalog import Catalog


@pytest.fixture
def world(tmp_path: Path, sqlite_catalog: Catalog) -> Iterator[World]:
    """Two clinics, a catalog on SQLite, a good archive."""
    made = World(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path}/only-catalog.db")
    made.add_clinic(NORTH)
    made.add_clinic(SOUTH)
    made.server.start()
    yield made
    made.server.stop()
