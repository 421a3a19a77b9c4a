"""What the long tests of faults share: how long they are, what is dropped, and whether all of it arrived."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from support.archives import Web
from support.corpus import instance_bytes, sample_uid
from support.importer_process import Process
from support.importing import NORTH, SOUTH, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pacs.ids import ClinicId
    from support.importing import World
    from support.orthanc import Orthanc

SCALE = float(os.environ.get("CHAOS_SCALE", "1"))
SEED = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 1_000_000)
"""Of all that is left to chance; CHAOS_SEED repeats a run, as far as the machine does."""


counts: list[str] = []
"""What was run, for the summary at the end."""


def scaled(count: int, least: int = 1) -> int:
    """So many at CHAOS_SCALE."""
    return max(least, round(count * SCALE))


def chance(*names: object) -> random.Random:
    """A generator of the test's own."""
    return random.Random(f"{SEED} {names}")


@dataclass
class Handed:
    """Files handed over by clinics: the digest of each under its clinic and its path in the inbox.

    `bad` are no DICOM files, and belong into failed.
    """

    good: dict[tuple[ClinicId, str], str] = field(default_factory=dict)
    bad: dict[tuple[ClinicId, str], str] = field(default_factory=dict)
    instances: dict[str, set[str]] = field(default_factory=dict)

    def drop(self, world: World, study: int, number: int) -> None:
        """One small instance; studies alternate between the clinics, every hundredth file is none."""
        clinic = (NORTH, SOUTH)[study % 2]
        series = sample_uid(study, "series", number % 3)
        path = f"study {study:02}/{number % 3}/IM{number:05}.dcm"
        if number % 100 == 99:
            content = self._put(world, path, b"no image " + path.encode(), clinic)
            self.bad[clinic, path] = sha256(content).hexdigest()
            return
        uid = sample_uid(study, "instance", number)
        content = instance_bytes(
            seed=study, series_uid=series, sop_instance_uid=uid, instance_number=number, size=16
        )
        self._put(world, path, content, clinic)
        self.good[clinic, path] = sha256(content).hexdigest()
        self.instances.setdefault(sample_uid(study, "study"), set()).add(uid)

    @staticmethod
    def _put(world: World, path: str, content: bytes, clinic: ClinicId) -> bytes:
        while True:
            # The folder may be removed as an emptied one just before the file is in it.
            with suppress(FileNotFoundError):
                return world.drop(path, content, clinic)


def found(world: World, root: Path) -> dict[tuple[ClinicId, str], str]:
    """The digests of all files of a tree, but for reports of failed files."""
    return {
        (clinic, path): sha256(content).hexdigest()
        for clinic in (NORTH, SOUTH)
        for path, content in world.files(root, clinic).items()
        if not path.endswith(".error.json")
    }


def waiting(world: World) -> int:
    """How many files lie in the inbox, which may be at work meanwhile."""
    return sum(not name.startswith(".") for _, _, names in os.walk(world.inbox) for name in names)


def leftovers(world: World) -> list[Path]:
    """Temporary files, half copies and the like in any tree."""
    trees = (world.inbox, world.processed, world.failed)
    return [
        path
        for tree in trees
        for path in tree.rglob("*")
        if path.is_file() and path.name.startswith(".clinicpacs") | path.name.endswith(".partial")
    ]


def assert_all_arrived(world: World, handed: Handed) -> None:
    """Every file is where it belongs, once and byte for byte; the worklist tells all of every study."""
    assert found(world, world.inbox) == {}
    assert found(world, world.processed) == handed.good
    assert found(world, world.failed) == handed.bad
    assert set(world.reasons().values()) | set(world.reasons(SOUTH).values()) <= {"not-dicom"}
    assert leftovers(world) == []
    for study_uid, instances in handed.instances.items():
        row = world.study(study_uid) or {}
        assert (row["state"], row["instance_count"]) == ("confirmed", len(instances)), study_uid
        assert row["marked"] == row["refreshed"], f"{study_uid} is dirty"


def is_listed(world: World, handed: Handed) -> bool:
    """Whether the worklist is up with what was handed over."""
    return all(
        (row := world.study(study_uid))
        and row["instance_count"] == len(instances)
        and row["marked"] == row["refreshed"]
        for study_uid, instances in handed.instances.items()
    )


def stored_in(server: Orthanc, handed: Handed) -> dict[str, list[str]]:
    """What the archive lists of each study, sorted: an instance that it has twice is there twice."""
    web = Web("orthanc", server.dicomweb_url, (server.username, server.password))
    with web:
        return {
            study_uid: sorted(_instances(web, study_uid, len(instances)))
            for study_uid, instances in handed.instances.items()
        }


def _instances(web: Web, study_uid: str, expected: int) -> Iterator[str]:
    for each in web.found(f"/studies/{study_uid}/instances", limit=str(expected * 2 + 1)):
        yield each["00080018"]["Value"][0]


@dataclass
class Supervisor:
    """Starts the importer, and again whenever it is gone, as a service manager does."""

    world: World
    settings: dict[str, str]
    through: Sequence[str] = ()

    def start(self) -> Process:
        """A new life, with its own log."""
        world = self.world
        paths = {"INBOX_PATH": world.inbox, "PROCESSED_PATH": world.processed, "FAILED_PATH": world.failed}
        return Process.start(
            world, through=self.through, **{name: str(path) for name, path in paths.items()}, **self.settings
        )

    def last_life(self, handed: Handed, seconds: float) -> Process:
        """One that is left alone until all is done, and then ends as it is told to."""
        process = self.start()
        try:
            wait_until(lambda: process.popen.poll() is not None or not waiting(self.world), seconds)
            wait_until(lambda: process.popen.poll() is not None or is_listed(self.world, handed), 60)
            assert process.terminate() == 0, process.output
        finally:
            process.kill()
        return process


def scraped(process: Process) -> dict[str, float]:
    """All samples of the importer's metrics, by name with labels as they are written."""
    lines = process.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def said(process: Process, text: str) -> int:
    """How many lines of the log hold this."""
    return len(re.findall(re.escape(text), process.output))


@contextmanager
def again_and_again(work: Callable[[], object]) -> Iterator[None]:
    """Works in a thread until the block ends, and ends before if it fails: so does the block then."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(1) as pool:
        looping = pool.submit(loop)
        try:
            yield
        finally:
            stop.set()
        looping.result(60)


def worlds_settings(server: Any, **more: str) -> dict[str, str]:
    """A real Orthanc as the archive."""
    return {
        "ARCHIVE_URL": server.dicomweb_url,
        "ARCHIVE_USERNAME": server.username,
        "ARCHIVE_PASSWORD": server.password,
        "ARCHIVE_STABLE_AGE_SECONDS": "1",
    } | more
