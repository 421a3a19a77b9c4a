"""R1: the importer is killed again and again at random moments, and nothing is lost, doubled or half done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from support.chaos import (
    Handed,
    Supervisor,
    assert_all_arrived,
    chance,
    counts,
    scaled,
    stored_in,
    waiting,
    worlds_settings,
)
from support.importing import NORTH, SOUTH, World

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.importer_process import Process
    from support.orthanc import Orthanc

STUDIES = 40
# A life's way: reading settings, opening the catalog, looking, reading, sending, moving, writing down.
_STARTING_SECONDS, _WORKING_SECONDS = 1.5, 0.7


@pytest.fixture
def catalog_world(catalog: Catalog, database_url: str, tmp_path: Path) -> World:
    made = World(tmp_path / "data", catalog, database_url)
    made.add_clinic(NORTH)
    made.add_clinic(SOUTH)
    return made


def live_and_die(process: Process, moments: random.Random) -> None:
    """Kill it while it starts, one time in ten, or else while it works."""
    if moments.random() < 0.1:
        time.sleep(moments.uniform(0, _STARTING_SECONDS))
    else:
        process.wait_started()
        time.sleep(moments.uniform(0, _WORKING_SECONDS))
    assert process.popen.poll() is None, process.output
    process.kill()


@pytest.mark.timeout(3600)
def test_killed_at_random_moments_it_loses_doubles_and_halves_nothing(
    catalog_world: World, orthanc: Orthanc
) -> None:
    """10,000 files of 40 studies, 200 kills, with SQLite; a fifth of that with PostgreSQL."""
    world, handed = catalog_world, Handed()
    share = 1.0 if world.catalog.is_sqlite else 0.2
    files, kills = scaled(round(10_000 * share), 100), scaled(round(200 * share), 5)
    moments = chance("kills", world.catalog.is_sqlite)
    supervisor = Supervisor(world, worlds_settings(orthanc, COOLDOWN_SECONDS="0.1", RESCAN_SECONDS="0.2"))
    began, busy = time.monotonic(), 0
    process = supervisor.start()
    for life in range(kills):
        for number in range(len(handed.good) + len(handed.bad), files * (life + 1) // kills):
            handed.drop(world, number % STUDIES, number)
        live_and_die(process, moments)
        busy += bool(waiting(world))
        process = supervisor.start()
    process.kill()
    supervisor.last_life(handed, 600)
    assert busy > kills / 2, "most kills must have met some work"
    assert_all_arrived(world, handed)
    stored = stored_in(orthanc, handed)
    assert stored == {study: sorted(uids) for study, uids in handed.instances.items()}
    counts.append(
        f"kills, {world.catalog._engine.name}: {kills}, {busy} of them with files in the inbox; of {files} "
        f"{len(handed.good)} are stored and {len(handed.bad)} failed; {time.monotonic() - began:.0f} s"
    )
