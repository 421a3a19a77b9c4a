"""Fixtures of the importer's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from importer import daemon, scanner
from support.importing import NORTH, SOUTH, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.catalog import Catalog


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the importer spares a large inbox and a slow disk, and a test need not wait for."""
    monkeypatch.setattr(scanner, "_HINT_SECONDS", 0.02)


@pytest.fixture
def short_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are on the real clock, whatever clock the importer is given."""
    monkeypatch.setattr(daemon, "_BEAT_SECONDS", 0.02)
    monkeypatch.setattr(scanner, "_BEAT_SECONDS", 0.02)


@pytest.fixture
def world(tmp_path: Path, sqlite_catalog: Catalog) -> Iterator[World]:
    """Two clinics, a catalog on SQLite, a good archive."""
    made = World(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path}/only-catalog.db")
    made.add_clinic(NORTH)
    made.add_clinic(SOUTH)
    made.server.start()
    yield made
    made.server.stop()
