"""100,000 files in 1,000 folders of an inbox: how soon they are seen and sent, what they cost at rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import cpu_seconds, interleaved
from demo.processes import free_port
from importer.inbox.look import EmptyFolders, Look
from importer.inbox.stability import StabilityTracker
from pacs.catalog import Catalog, clinics
from pacs.ids import ClinicId
from support.corpus import instance_bytes
from support.stow_server import Answers, StowServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.options import Options

_CLINIC = ClinicId("northside")
_FOLDERS, _FILES = 1000, 100
_ALL = _FOLDERS * _FILES
_COOLDOWN = _RESCAN = 10.0
"""As long as each other, so that files become stable just when a rescan is about to begin: the worst case."""
_FOR_EVER = 86400.0
_ROOT = Path(__file__).parents[2]
_WINDOWS = 2
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 120


def run(options: Options) -> Iterator[Figure]:
    """All of P5."""
    inbox = options.folder / "data" / "inbox" / _CLINIC
    options.say(f"making {_ALL:,} files in {_FOLDERS:,} folders")
    _fill(inbox)
    yield _rescan(inbox, options)
    archive = StowServer(lambda _sent: Answers(503))
    archive.start()
    try:
        yield from _first(options, archive)
        yield _rest(options, archive)
    finally:
        archive.stop()


def _fill(inbox: Path) -> None:
    """Real instances of about 1 KB, all different: copies of one with other UIDs of the same length."""
    uids = ["2.25.7100000000", "2.25.7200000000", "2.25.7300000000"]
    template = instance_bytes(study_uid=uids[0], series_uid=uids[1], sop_instance_uid=uids[2], size=4)
    for study in range(_FOLDERS):
        folder = inbox / f"study-{study:04d}"
        folder.mkdir(parents=True)
        content = template
        for uid in uids[:2]:
            content = content.replace(uid.encode(), f"{uid[:7]}{study:08d}".encode())
        for number in range(_FILES):
            instance = f"{uids[2][:7]}{study * _FILES + number:08d}"
            (folder / f"IM{number:06d}.dcm").write_bytes(content.replace(uids[2].encode(), instance.encode()))


# In this process, with nothing beside it


def _rescan(inbox: Path, options: Options) -> Figure:
    cooling, in_hand = _look_of(inbox, _FOR_EVER), _look_of(inbox, 0.0)
    for _ in range(3):
        cooling()
        in_hand()
    subjects = {"cooling": cooling, "in hand": in_hand, "walk": lambda: _walk(inbox)}
    samples = interleaved({name: _timed(subject) for name, subject in subjects.items()}, options.rounds)
    return Figure(
        key="P5-rescan",
        what="a rescan of 100,000 waiting files in 1,000 folders",
        unit="s",
        ours=samples["cooling"],
        goal=Goal("ours", at_most=2),
        more_is_better=False,
        rows=(
            Row("the same, when all of them are stable and wait for the archive", "s", samples["in hand"]),
            Row("os.walk with a stat of each file", "s", samples["walk"]),
        ),
        note="The importer's own look at a clinic's folder; a local disk, its names and inodes cached. Until "
        " files are stable each look compares size, time and inode of every one of them.",
    )


def _look_of(inbox: Path, cooldown: float) -> Callable[[], None]:
    tracker, empty_folders = StabilityTracker(cooldown), EmptyFolders(cooldown)

    def look() -> None:
        Look(inbox.parent, _CLINIC, tracker, empty_folders, time.monotonic).through()
        list(tracker.take(time.monotonic()))

    return look


def _walk(inbox: Path) -> None:
    for folder, _, names in os.walk(inbox):
        for name in names:
            os.stat(f"{folder}/{name}", follow_symlinks=False)  # noqa: PTH116 - as in many a script


def _timed(subject: Callable[[], None]) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        subject()
        return time.perf_counter() - began

    return measure


# The process, seen from outside


@dataclass(frozen=True)
class _Importer:
    process: subprocess.Popen[bytes]
    port: int
    began: float

    def metric(self, name: str) -> float | None:
        """The sum of its samples of that name; None before it serves any."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        try:
            answer = urllib3.request("GET", url, retries=False, timeout=30)
        except urllib3.exceptions.HTTPError:
            if self.process.poll() is not None:
                raise SystemExit("the importer ended") from None
            return None
        families = text_string_to_metric_families(answer.data.decode())
        return sum(each.value for family in families for each in family.samples if each.name == name)

    def peak_megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def percent(self, seconds: float) -> float:
        """Of one processor, on average over so long."""
        before, began = cpu_seconds([self.process.pid]), time.monotonic()
        time.sleep(seconds)
        return 100 * (cpu_seconds([self.process.pid]) - before) / (time.monotonic() - began)


@contextmanager
def _running(options: Options, archive: StowServer, cooldown: float) -> Iterator[_Importer]:
    data, port = options.folder / "data", free_port()
    settings = {
        "DATA_PATH": str(data),
        "ARCHIVE_URL": archive.url,
        "COOLDOWN_SECONDS": str(cooldown),
        "RESCAN_SECONDS": str(_RESCAN),
        "IMPORTER_PORT": str(port),
    }
    _register(data)
    archive.requests.clear()
    began = time.monotonic()
    with (options.folder / "importer.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "importer"], cwd=_ROOT, env=os.environ | settings, stdout=log, stderr=log
        )
    try:
        yield _Importer(process, port, began)
    finally:
        process.terminate()
        process.wait(30)


def _register(data: Path) -> None:
    if not (data / "catalog.db").exists():
        catalog = Catalog.open(SecretStr(f"sqlite:///{data}/catalog.db"))
        with catalog.write() as connection:
            clinics.add(connection, _CLINIC, "Northside", datetime.now(UTC))
        catalog.close()


def _first(options: Options, archive: StowServer) -> Iterator[Figure]:
    rounds = [_measure_first(options, archive) for _ in range(options.rounds)]
    scans, firsts, peaks = (Sample(values) for values in zip(*rounds, strict=True))
    yield Figure(
        key="P5-scan",
        what="first scan of 100,000 files in 1,000 folders",
        unit="s",
        ours=scans,
        goal=Goal("ours", at_most=10),
        more_is_better=False,
        rows=(Row("the importer's peak memory, with all of them stable and in line", "MB", peaks),),
        note="From the start of the process until importer_waiting_files says 100,000.",
    )
    yield Figure(
        key="P5-first",
        what="first upload of 100,000 files, beyond the cooldown",
        unit="s",
        ours=firsts,
        goal=Goal("ours", at_most=1),
        more_is_better=False,
        note="From the end of the first scan, as far as /metrics had not told of it yet, until the first "
        f"STOW-RS request has arrived, less the cooldown of {_COOLDOWN:g} s. The cooldown is as long as the "
        "period of the rescans, so that the files become stable just as one begins.",
    )


def _measure_first(options: Options, archive: StowServer) -> tuple[float, float, float]:
    """Seconds to the first scan's end and from the cooldown's to the first request; peak memory in MB."""
    with _running(options, archive, _COOLDOWN) as importer:
        ended = _wait_until(lambda: importer.metric("importer_waiting_files") == _ALL)
        _wait_until(lambda: bool(archive.requests))
        first = archive.requests[0].at
        time.sleep(1.0)
        return ended - importer.began, first - ended - _COOLDOWN, importer.peak_megabytes()


def _wait_until(condition: Callable[[], bool]) -> float:
    """When it was not true yet, the last time."""
    since = time.monotonic()
    deadline = since + _PATIENCE_SECONDS
    while not condition():
        since = time.monotonic()
        if since > deadline:
            raise SystemExit("the importer did not get there; see importer.log")
        time.sleep(_POLL_SECONDS)
    return since


def _rest(options: Options, archive: StowServer) -> Figure:
    inbox = options.folder / "data" / "inbox"
    away = _percent(options, archive, _COOLDOWN, lambda _: bool(archive.requests))
    cooling = _percent(options, archive, _FOR_EVER, lambda it: it.metric("importer_waiting_files") == _ALL)
    (inbox / _CLINIC).rename(inbox / "a-clinic-that-nobody-added")
    (inbox / _CLINIC).mkdir()
    unknown = _percent(
        options, archive, _COOLDOWN, lambda it: it.metric("importer_unknown_clinic_folders") == 1
    )
    (inbox / "a-clinic-that-nobody-added").rename(options.folder / "aside")
    empty = _percent(options, archive, _COOLDOWN, lambda it: it.metric("importer_archive_up") == 1)
    return Figure(
        key="P5-rest",
        what="processor time at rest with 100,000 files in the inbox of an unknown clinic",
        unit="% of a core",
        ours=unknown,
        goal=Goal("ours", at_most=3),
        more_is_better=False,
        rows=(
            Row("an empty inbox", "% of a core", empty),
            Row("100,000 stable files, the archive answers 503", "% of a core", away),
            Row("100,000 files that wait for a long cooldown", "% of a core", cooling),
        ),
        note=f"Processor time of the process over windows of {_RESCAN:g} s, each with one rescan.",
    )


def _percent(
    options: Options, archive: StowServer, cooldown: float, at_rest: Callable[[_Importer], bool]
) -> Sample:
    with _running(options, archive, cooldown) as importer:
        _wait_until(lambda: at_rest(importer))
        time.sleep(_RESCAN / 2)
        return Sample(tuple(importer.percent(_RESCAN) for _ in range(_WINDOWS)))
