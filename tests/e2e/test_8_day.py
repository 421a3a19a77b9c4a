"""A day of two clinics, compressed: studies come in while 200 viewers read, and nothing grows.

DAY_SECONDS says how long it takes; with 1,200 or more it is 24 h at a clinic's pace, which are 120 studies.
What each service took at each hour goes to `day.json` beside the logs.
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
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
import requests

from support.corpus import write_study
from support.day import Usage, complaints, is_counted, usage
from support.inbox import copy_in, failed, processed
from support.keycloak import Keycloak
from support.people import Physician, SignedIn
from support.stack import wait_until

if TYPE_CHECKING:
    from support.stack import Stack

DAY_SECONDS = float(os.environ.get("DAY_SECONDS", "90"))
STUDIES = 120 if DAY_SECONDS >= 1200 else 24
HOURS = 24
CLINICS = ("denscan-almaty", "northside")
PHYSICIANS, VIEWERS = 20, 200
# A physician looks at a study for so long, at most. All come from one address, whose searches are limited.
_VIEW_SECONDS = min(DAY_SECONDS, 120)
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'

pytestmark = pytest.mark.timeout(int(DAY_SECONDS * 2) + 900)


@dataclass
class Reading:
    """What all viewers do: each has a study list and opens studies of it, as one of the physicians."""

    stack: Stack
    physicians: list[SignedIn]
    statuses: Counter[int] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def view(self, number: int) -> None:
        """One viewer, until it is stopped."""
        rng = random.Random(number)
        physician = self.physicians[number % len(self.physicians)]
        with requests.Session() as session:
            while not self.stopped.wait(rng.uniform(1, _VIEW_SECONDS)):
                studies = self.ask(session, physician, "/studies?limit=101&includefield=00081030")
                if studies:
                    self.open(session, physician, rng.choice(studies))

    def open(self, session: requests.Session, physician: SignedIn, study: dict[str, object]) -> None:
        path = f"/studies/{_value(study, '0020000D')}"
        for each in self.ask(session, physician, f"{path}/series"):
            series = f"{path}/series/{_value(each, '0020000E')}"
            for instance in self.ask(session, physician, f"{series}/metadata"):
                frame = f"{series}/instances/{_value(instance, '00080018')}/frames/1"
                self.ask(session, physician, frame, accept=FRAMES)

    def ask(
        self,
        session: requests.Session,
        physician: SignedIn,
        path: str,
        accept: str = "application/dicom+json",
    ) -> list[dict[str, object]]:
        headers = {"Authorization": f"Bearer {physician.token()}", "Accept": accept}
        # With each request: the environment's own bundle would go before the session's.
        address = f"{self.stack.url}/dicom-web{path}"
        answer = session.get(address, headers=headers, timeout=60, verify=self.stack.certificate)
        with self.lock:
            self.statuses[answer.status_code] += 1
        return json.loads(answer.content) if answer.ok and "json" in accept else []


def _value(dataset: dict[str, object], tag: str) -> str:
    return str(dataset[tag]["Value"][0])  # type: ignore[index]


@pytest.fixture(scope="module")
def physicians(clinics: Stack) -> list[SignedIn]:
    """Ten of each clinic, added as an administrator does, who have chosen their passwords."""
    server = Keycloak.of(clinics)
    return [
        Physician.added(clinics, f"reader-{number}", clinic=CLINICS[number % len(CLINICS)]).signed_in(server)
        for number in range(PHYSICIANS)
    ]


def test_a_day_leaves_nothing_behind(clinics: Stack, physicians: list[SignedIn]) -> None:
    said_before = complaints(clinics)
    reading = Reading(clinics, physicians)
    with ThreadPoolExecutor(VIEWERS) as viewers:
        running = [viewers.submit(reading.view, number) for number in range(VIEWERS)]
        try:
            hours = _live(clinics)
        finally:
            reading.stopped.set()
    for each in running:
        each.result()
    _write_down(clinics, reading, hours)

    assert reading.statuses.keys() == {200}, reading.statuses
    assert reading.statuses[200] > VIEWERS
    assert complaints(clinics) - said_before == Counter()
    assert not [each for clinic in CLINICS for each in failed(clinics, clinic, "day-*")]
    for service in hours[0]:
        _does_not_grow(service, [hour[service] for hour in hours])


def _does_not_grow(service: str, hours: list[Usage]) -> None:
    """The last third of the day beside the second; in the first, caches and pools fill up."""
    third = len(hours) // 3
    second, last = (
        Usage(*(median(values) for values in zip(*map(astuple, part), strict=True)))
        for part in (hours[third:-third], hours[-third:])
    )
    assert last.memory - second.memory < second.memory // 10 + (8 << 20), (service, second, last)
    assert last.files <= second.files, (service, second, last)
    if is_counted(service):
        assert last.handles - second.handles <= VIEWERS // 10, (service, second, last)


def _live(stack: Stack) -> list[dict[str, Usage]]:
    """The day itself; what each service takes at each hour."""
    began = time.monotonic()
    hours: list[dict[str, Usage]] = []
    dropped: dict[tuple[str, str], int] = {}
    while (passed := time.monotonic() - began) < DAY_SECONDS:
        if len(dropped) < STUDIES * passed / DAY_SECONDS:
            clinic = CLINICS[len(dropped) % len(CLINICS)]
            name = f"day-{len(dropped):03d}"
            dropped[clinic, name] = _hand_over(stack, clinic, name, seed=80_000 + len(dropped))
        if len(hours) < HOURS * passed / DAY_SECONDS:
            hours.append(usage(stack))
        time.sleep(0.25)
    for (clinic, name), count in dropped.items():
        wait_until(
            lambda clinic=clinic, name=name, count=count: len(processed(stack, clinic, name)) == count,
            180,
            f"{clinic}/{name} is filed",
        )
    return hours


def _hand_over(stack: Stack, clinic: str, name: str, seed: int) -> int:
    count = 3 + seed % 8
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - the host's user reads it
        folder = Path(scratch) / "study"
        write_study(folder, ("CT", "MR")[seed % 2], instances=count, seed=seed)
        copy_in(stack, clinic, folder, name)
    return count


def _write_down(stack: Stack, reading: Reading, hours: list[dict[str, Usage]]) -> None:
    stack.seconds[f"a day of {STUDIES} studies and {reading.statuses[200]} requests"] = DAY_SECONDS
    logs = stack.root.parent / "logs"
    logs.mkdir(exist_ok=True)
    told = [{service: asdict(each) for service, each in hour.items()} for hour in hours]
    (logs / "day.json").write_text(json.dumps(told, indent=1))
