"""R5: the wall clock is set by years, and nothing is lost, hurried, held up for good or given to another."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support.corpus import instance_bytes, sample_uid
from support.importer_process import Process
from support.importing import NORTH, SOUTH, wait_until
from support.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.importing import World
    from support.stow_server import Sent

COOLDOWN = 0.4
STUDY = sample_uid("contested", "study")


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "wall-clock")


@pytest.fixture
def start(world: World, wall_clock: WallClock) -> Iterator[Callable[[], Process]]:
    """Starts importers whose wall clock is this one."""
    started: list[Process] = []

    def start() -> Process:
        settings = {"COOLDOWN_SECONDS": str(COOLDOWN), "ARCHIVE_TIMEOUT_SECONDS": "60"}
        settings["ARCHIVE_STABLE_AGE_SECONDS"] = "1"
        started.append(Process.start(world, patch=wall_clock.patch, **settings))
        started[-1].wait_started()
        return started[-1]

    yield start
    for process in started:
        process.kill()


class Held:
    """An archive that keeps the first request for an image of the contested study until it is let go."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, sent: Sent) -> None:
        if sample_uid("contested", "instance") in sent.uids and not self.asked.is_set():
            self.asked.set()
            assert self.go_on.wait(60)


def wait_for_looks(world: World, seed: str) -> None:
    """Files that come now are stored: all that a look through the inbox brings about has come about, too."""
    for number in range(2):
        path = f"{seed}/{number}.dcm"
        world.drop(path, seed=seed, instance_number=number)
        wait_until(lambda path=path: path in world.done(), what=path)


def drop_contested(world: World, start: Callable[[], Process]) -> tuple[Process, bytes]:
    """One clinic's image is on its way to the archive, another's of the same study waits for the outcome."""
    uid = sample_uid("contested", "instance")
    mine = world.drop("mine.dcm", seed="contested", sop_instance_uid=uid)
    process = start()
    assert isinstance(world.server.rule, Held)
    wait_until(world.server.rule.asked.is_set)
    world.drop("theirs.dcm", clinic=SOUTH, seed="contested", instance_number=2)
    wait_until(lambda: '"waiting-for-reservation"} 1.0' in process.get("/metrics").text)
    return process, mine


def assert_undecided(world: World) -> None:
    row = world.study(STUDY) or {}
    assert (row.get("clinic_id"), row.get("state")) == (NORTH, "provisional")
    assert set(world.waiting(SOUTH)) == {"theirs.dcm"}


def assert_decided(world: World, mine: bytes) -> None:
    wait_until(lambda: world.done().get("mine.dcm") == mine)
    wait_until(lambda: world.reasons(SOUTH) == {"theirs.dcm": "study-owned-by-another-clinic"})
    row = world.study(STUDY) or {}
    assert (row["clinic_id"], row["state"]) == (NORTH, "confirmed")
    assert {each.header.InstitutionName for each in world.server.stored.values()} == {NORTH}
    assert world.waiting() == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("days", [400, -400])
@pytest.mark.parametrize("dies", [False, True], ids=["lives", "is killed"])
def test_a_clock_that_is_set_by_years_decides_no_contest_and_delays_nothing(
    world: World, wall_clock: WallClock, start: Callable[[], Process], *, days: int, dies: bool
) -> None:
    """While an image of a new study is on its way, and another clinic's waits; then while the study settles.

    Where the importer is killed meanwhile, its clinic is about to send the image anew, under another name.
    """
    held = world.server.rule = Held()
    process, mine = drop_contested(world, start)
    wall_clock.set_by(days=days)
    place = world.inbox / NORTH / "mine.dcm"
    if dies:
        process.kill()
        place.rename(place.with_name("mine.dcm.part"))
        start()
    wait_for_looks(world, "meanwhile")
    filed_on = datetime.now().astimezone() + timedelta(days=days)
    assert (world.processed / NORTH / f"{filed_on:%Y-%m-%d}" / "meanwhile").is_dir()
    assert_undecided(world)
    held.go_on.set()
    if dies:
        wait_for_looks(world, "after")
        place.with_name("mine.dcm.part").rename(place)
    assert_decided(world, mine)
    wall_clock.set_by(days=0)
    wait_until(lambda: (world.study(STUDY) or {})["settled"])
    wait_for_looks(world, "in the end")


@pytest.mark.timeout(120)
def test_a_clock_that_is_set_again_and_again_neither_hurries_nor_holds_up_a_file(
    world: World, wall_clock: WallClock, start: Callable[[], Process]
) -> None:
    """The wall clock is for folder names and reports only; stability goes by the monotonic one."""
    start()
    jumps = itertools.cycle((-400, 400, 0, 365 * 60))
    content = instance_bytes(seed="clock", size=16)
    place = world.inbox / NORTH / "a.dcm"
    step = len(content) // 6 + 1
    for begin in range(0, len(content), step):
        with place.open("ab") as file:
            file.write(content[begin : begin + step])
        wall_clock.set_by(days=next(jumps))
        assert world.server.requests == []
        time.sleep(COOLDOWN / 2)
    wait_until(lambda: world.done() == {"a.dcm": content})
    assert set(world.server.times_stored.values()) == {1}
    world.drop("broken.dcm", content[:-10], clinic=SOUTH)
    wait_until(lambda: world.reasons(SOUTH) == {"broken.dcm": "truncated"})
