"""A day of two clinics, compressed: studies come in while 200 viewers read, and nothing grows.

DAY_SECONDS says how long it takes; 24 h at a clinic's pace are 120 studies.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from support.corpus import write_study
from support.inbox import copy_in, failed, processed
from support.stack import wait_until
from support.viewer import kept_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.stack import Stack

DAY_SECONDS = float(os.environ.get("DAY_SECONDS", "90"))
STUDIES = 120 if DAY_SECONDS > 600 else 24
VIEWERS = 200
READERS = {"denscan-almaty": "dr.smith", "northside": "nora"}
SERVICES = ("gateway", "importer", "nginx", "orthanc", "postgres")
# A physician looks at a study for so long, at most. All come from one address, whose searches are limited.
_VIEW_SECONDS = min(DAY_SECONDS, 120)
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
# What fills up with use and then stays: caches of PostgreSQL and Orthanc, buffers of pools.
_MAY_GROW_BYTES = 256 << 20
# Of those whose handles are not one for each viewer, or one for each connection of theirs.
_MAY_GROW_HANDLES = {"gateway": 80, "importer": 20}

pytestmark = pytest.mark.timeout(int(DAY_SECONDS * 2) + 900)


@dataclass
class Reading:
    """What all viewers do; each has a study list and opens studies of it, as its clinic's physician."""

    stack: Stack
    tokens: dict[str, str]
    statuses: Counter[int] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def view(self, number: int) -> None:
        """One viewer, until it is stopped."""
        rng = random.Random(number)
        clinic = sorted(READERS)[number % len(READERS)]
        with requests.Session() as session:
            while not self.stopped.wait(rng.uniform(1, _VIEW_SECONDS)):
                studies = self.ask(session, clinic, "/studies?limit=101&includefield=00081030")
                if studies:
                    self.open(session, clinic, rng.choice(studies))

    def open(self, session: requests.Session, clinic: str, study: dict[str, object]) -> None:
        path = f"/studies/{_value(study, '0020000D')}"
        for each in self.ask(session, clinic, f"{path}/series"):
            series = f"{path}/series/{_value(each, '0020000E')}"
            for instance in self.ask(session, clinic, f"{series}/metadata"):
                frame = f"{series}/instances/{_value(instance, '00080018')}/frames/1"
                self.ask(session, clinic, frame, accept=FRAMES)

    def ask(
        self, session: requests.Session, clinic: str, path: str, accept: str = "application/dicom+json"
    ) -> list[dict[str, object]]:
        headers = {"Authorization": f"Bearer {self.tokens[clinic]}", "Accept": accept}
        # With each request: the environment's own bundle would go before the session's.
        address = f"{self.stack.url}/dicom-web{path}"
        answer = session.get(address, headers=headers, timeout=60, verify=self.stack.certificate)
        with self.lock:
            self.statuses[answer.status_code] += 1
        return json.loads(answer.content) if answer.ok and "json" in accept else []


def _value(dataset: dict[str, object], tag: str) -> str:
    return str(dataset[tag]["Value"][0])  # type: ignore[index]


def _usage(stack: Stack) -> dict[str, tuple[int, int, int]]:
    """Bytes of memory that are no cache, open handles and temporary files of each service."""
    found = {}
    for service in SERVICES:
        script = (
            "cat /sys/fs/cgroup/memory.stat 2>/dev/null || cat /sys/fs/cgroup/memory/memory.stat;"
            "echo handles $(ls -d /proc/[0-9]*/fd/* 2>/dev/null | wc -l);"
            "echo files $(find /tmp -type f 2>/dev/null | wc -l)"
        )
        lines = stack.compose("exec", "-T", service, "sh", "-c", script).splitlines()
        told = dict(line.split()[:2] for line in lines)
        memory = int(told.get("anon") or told["rss"])
        found[service] = (memory, int(told["handles"]), int(told["files"]))
    return found


def test_a_day_leaves_nothing_behind(clinics: Stack, sign_in: Callable[[str], Page], tmp_path: Path) -> None:
    pages = {clinic: sign_in(reader) for clinic, reader in READERS.items()}
    reading = Reading(clinics, {clinic: kept_token(page) for clinic, page in pages.items()})
    with ThreadPoolExecutor(VIEWERS) as viewers:
        running = [viewers.submit(reading.view, number) for number in range(VIEWERS)]
        try:
            usage = _live(clinics, reading, pages)
        finally:
            reading.stopped.set()
    for each in running:
        each.result()

    assert reading.statuses.keys() == {200}, reading.statuses
    assert reading.statuses[200] > VIEWERS
    for clinic in READERS:
        assert not failed(clinics, clinic, "day-*")
    early, late = usage
    for service in SERVICES:
        grown = [after - before for before, after in zip(early[service], late[service], strict=True)]
        assert grown[0] < _MAY_GROW_BYTES, (service, early[service], late[service])
        if service in _MAY_GROW_HANDLES:
            assert grown[1] < _MAY_GROW_HANDLES[service], (service, early[service], late[service])
        assert grown[2] <= 0, (service, early[service], late[service])
    clinics.seconds[f"a day of {STUDIES} studies and {reading.statuses[200]} requests"] = DAY_SECONDS


def _live(
    stack: Stack, reading: Reading, pages: dict[str, Page]
) -> tuple[dict[str, tuple[int, int, int]], dict[str, tuple[int, int, int]]]:
    """The day itself; the usage after its first third, and at its end."""
    began = time.monotonic()
    early: dict[str, tuple[int, int, int]] = {}
    dropped: dict[tuple[str, str], int] = {}
    while (passed := time.monotonic() - began) < DAY_SECONDS:
        if len(dropped) < STUDIES * passed / DAY_SECONDS:
            clinic = sorted(READERS)[len(dropped) % len(READERS)]
            name = f"day-{len(dropped):03d}"
            dropped[clinic, name] = _hand_over(stack, clinic, name, seed=80_000 + len(dropped))
        if not early and passed > DAY_SECONDS / 3:
            early = _usage(stack)
        for clinic, page in pages.items():
            page.wait_for_timeout(250)  # the browser renews its token meanwhile
            reading.tokens[clinic] = kept_token(page) or reading.tokens[clinic]
    for (clinic, name), count in dropped.items():
        wait_until(
            lambda clinic=clinic, name=name, count=count: len(processed(stack, clinic, name)) == count,
            180,
            f"{clinic}/{name} is filed",
        )
    return early, _usage(stack)


def _hand_over(stack: Stack, clinic: str, name: str, seed: int) -> int:
    count = 3 + seed % 8
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - the host's user reads it
        folder = Path(scratch) / "study"
        write_study(folder, ("CT", "MR")[seed % 2], instances=count, seed=seed)
        copy_in(stack, clinic, folder, name)
    return count
