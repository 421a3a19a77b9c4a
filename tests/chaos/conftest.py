"""Fixtures of the long tests of faults."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from bench.servers import orthanc as debian
from pacs.catalog import Catalog
from support import chaos
from support.chaos_disks import new_ext4, new_share, new_tmpfs
from support.chaos_scene import begin
from support.chaos_served import issuer, start
from support.importing import NORTH, SOUTH, World
from support.orthanc import require_installed

__all__ = ["begin", "issuer", "new_ext4", "new_share", "new_tmpfs", "start"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.orthanc import Orthanc


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("chaos")
    for line in (f"CHAOS_SEED={chaos.SEED} CHAOS_SCALE={chaos.SCALE:g}", *chaos.counts):
        terminalreporter.write_line(line)


@pytest.fixture
def make_world(tmp_path: Path, sqlite_template: Path) -> Iterator[Callable[..., World]]:
    """Makes a platform: two clinics, an archive that can be told to misbehave, a catalog on SQLite.

    `data` holds the folders and the catalog unless it is told otherwise.
    """
    with ExitStack() as stack:

        def make(data: Path | None = None, catalog_folder: Path | None = None, **options: Path) -> World:
            data = data or tmp_path / "data"
            path = (catalog_folder or data) / "catalog.db"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sqlite_template, path)
            url = f"sqlite:///{path}"
            world = World(data, Catalog.open(SecretStr(url)), url, options=options)
            stack.callback(world.catalog.close)
            world.add_clinic(NORTH)
            world.add_clinic(SOUTH)
            world.server.start()
            stack.callback(world.server.stop)
            return world

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """One on the disk of all tests."""
    return make_world()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc of the test's own, as production runs it."""
    require_installed()
    with debian.running(tmp_path / "orthanc") as server:
        yield server
