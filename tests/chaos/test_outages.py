"""R2: whatever the archive does wrong, nothing fails, all is stored at last, and it is told once."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from support.chaos import SCALE, Supervisor, chance, counts, scraped, waiting
from support.importer_process import Process
from support.importing import NORTH, SPEED, wait_until
from support.stow_server import Answers, CutAfterStoring, Hangs, Omits, Refuses, Resets

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from support.importing import World
    from support.stow_server import Fault, Sent

FILES = 30
OUTAGE_SECONDS = 10.0 if SCALE >= 0.5 else 3.0
RESUME_SECONDS = 5.0


@dataclass
class Archive:
    """What the archive does to requests, until it is told to be good again."""

    fault: Callable[[Sent], Fault | None]
    peek: Callable[[int], Fault | None] = lambda _length: None
    healed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, sent: Sent) -> Fault | None:
        return self.fault(sent)


def always(fault: Fault) -> Callable[[], Archive]:
    return lambda: Archive(lambda _sent: fault)


def resets_in_the_middle() -> Archive:
    return Archive(lambda _sent: Resets(), peek=lambda length: Resets(length // 2))


def slow() -> Archive:
    healed = threading.Event()

    def fault(_sent: Sent) -> None:
        healed.wait(1.0)

    return Archive(fault, healed=healed)


def hangs() -> Archive:
    archive = Archive(lambda _sent: None)
    archive.fault = lambda _sent: Hangs(archive.healed)
    return archive


def leaves_out_half() -> Archive:
    """Another half each time, and all of a single one every other time."""
    return Archive(lambda sent: Omits(frozenset(sent.uids[sent.number % 2 :: 2])))


def leaves_out_always_the_same() -> Archive:
    """Half of all instances, however often they come and whatever with."""
    return Archive(lambda sent: Omits(frozenset(uid for uid in sent.uids if crc32(uid.encode()) % 2)))


FAULTS: dict[str, Callable[[], Archive]] = {
    "reset": resets_in_the_middle,
    "slow": slow,
    "hanging": hangs,
    "503": always(Answers(503)),
    "401": always(Answers(401)),
    "413": always(Answers(413)),
    "full-a700": always(Refuses(0xA700)),
    "full-0110": always(Refuses(0x0110)),
    "full-nothing-listed": always(Omits()),
    "parts-missing": leaves_out_half,
    "same-parts-missing": leaves_out_always_the_same,
    "garbage": always(Answers(200, b"\x00\xff garbage", "application/dicom+json")),
    "cut-after-storing": always(CutAfterStoring()),
}
ENDURED = {"slow"}
"""What is no outage: files get through all the same."""
TOLD_BY_FILE = {"413", "full-0110", "parts-missing", "same-parts-missing"}
"""What may be a single file's trouble: then files are stuck, if the archive is not said to be away."""


def begin(world: World, name: str) -> Callable[[], None]:
    """The outage begins; what is returned ends it."""
    if name == "refused":
        world.server.stop()
        return world.server.start
    archive = FAULTS[name]()
    world.server.rule = archive

    def heal() -> None:
        world.server.rule = lambda _sent: None
        archive.healed.set()

    return heal


def lines(process: Process, *, since: int) -> list[dict[str, str]]:
    told = [json.loads(line) for line in process.output[since:].splitlines()]
    return [line for line in told if line["level"] in {"warning", "error"} or "is back" in line["event"]]


def pass_time(seconds: float) -> None:
    """An outage lasts as long as it lasts: there is nothing to wait for."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began >= seconds, seconds + 10)


@pytest.mark.timeout(600)
def test_each_outage_fails_nothing_is_told_once_and_is_over_within_five_seconds(world: World) -> None:
    settings = {"COOLDOWN_SECONDS": "0.1", "RESCAN_SECONDS": "0.5", "ARCHIVE_TIMEOUT_SECONDS": "5"}
    process = Supervisor(world, settings).start()
    try:
        process.wait_started()
        for name in ("refused", *FAULTS):
            since = len(process.output)
            endure(world, name)
            assert_told_once(name, lines(process, since=since))
    finally:
        process.kill()
    assert world.failures() == {}
    assert len(world.done()) == FILES * (len(FAULTS) + 1)


def endure(world: World, name: str) -> None:
    """One outage from its beginning until all that was handed over in it is filed."""
    heal = begin(world, name)
    for number in range(FILES):
        world.drop(f"{name}/{number}.dcm", seed=name, instance_number=number)
    pass_time(OUTAGE_SECONDS)
    assert world.failures() == {}, name
    stored = sum(world.server.times_stored.values())
    heal()
    healed = time.monotonic()
    if name not in ENDURED:
        wait_until(lambda: sum(world.server.times_stored.values()) > stored)
        resumed = time.monotonic() - healed
        assert resumed < RESUME_SECONDS, name
        counts.append(f"outage of {OUTAGE_SECONDS:g} s, {name}: resumed after {resumed:.1f} s")
    wait_until(lambda: not in_inbox(world, name), 60, name)


def in_inbox(world: World, name: str) -> bool:
    return any((world.inbox / NORTH / name).glob("*.dcm"))


def assert_told_once(name: str, told: list[dict[str, str]]) -> None:
    events = [line["event"] for line in told]
    away = sum("is away" in event for event in events)
    stuck = events.count("files of a clinic are stuck")
    if name in ENDURED:
        assert away + stuck == 0, told
    elif name in TOLD_BY_FILE:
        assert away <= 1, told
        assert 1 <= away + stuck <= 2, told
    else:
        assert (away, stuck) == (1, 0), (name, told)
    assert sum("is back" in event for event in events) == away, (name, told)
    assert len(told) <= 4, (name, told)


FAST = (
    "import time; daemon.Importer.__init__.__kwdefaults__.update("
    f"clock=lambda: time.monotonic() * {SPEED}, hint_seconds=0.02, beat_seconds=0.02)"
)
"""What is to wait a second waits a twentieth."""


@pytest.mark.timeout(900)
def test_an_hour_of_outages_fails_and_loses_nothing(world: World) -> None:
    """Simulated: each second takes a twentieth. Outages follow one another, files come all the time."""
    moments: random.Random = chance("outages")
    hour = 3600 * max(SCALE, 0.05)
    dropped: dict[str, bytes] = {}
    outages = 0
    settings = {"COOLDOWN_SECONDS": "1", "RESCAN_SECONDS": "2", "ARCHIVE_TIMEOUT_SECONDS": "0.25"}
    process = Process.start(world, patch=FAST, **settings)
    try:
        process.wait_started()
        began = time.monotonic()
        names = itertools.cycle(moments.sample(["refused", *FAULTS], len(FAULTS) + 1))
        while (time.monotonic() - began) * SPEED < hour:
            heal = begin(world, next(names))
            outages += 1
            for _ in range(moments.randrange(1, 30)):
                path = f"{len(dropped) // 50}/{len(dropped)}.dcm"
                dropped[path] = world.drop(path, seed=len(dropped) // 50, instance_number=len(dropped))
            pass_time(moments.uniform(5, 60) / SPEED)
            heal()
            pass_time(moments.uniform(8, 20) / SPEED)
        wait_until(lambda: not waiting(world), 60)
        wait_until(lambda: scraped(process)["importer_archive_up"] == 1)
        told = lines(process, since=0)
    finally:
        process.kill()
    assert world.failures() == {}
    assert world.done() == dropped
    events = [line["event"] for line in told]
    away = sum("is away" in event for event in events)
    assert sum("is back" in event for event in events) == away <= outages, told
    assert len(told) <= 3 * outages, "not once per file"
    counts.append(
        f"outages, simulated: {outages} in {hour:.0f} s, {len(dropped)} files, {len(told)} lines of log"
    )
