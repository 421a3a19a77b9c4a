"""Several importers on one network inbox: what a second and a third bring, with 1 to 3 Orthancs on one index.

Here all of them share the processors of one machine, so that they can win only what one alone leaves unused.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from bench.figures import Curve, Figure, Goal, Row, Sample
from bench.rounds import cpu_seconds, interleaved
from bench.servers import orthanc, postgresql
from pacs.catalog import Catalog, clinics
from pacs.ids import ClinicId
from support.corpus import instance_bytes
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.options import Options
    from support.orthanc import Orthanc

_CLINICS = [ClinicId(f"clinic-{number:02}") for number in range(12)]
_MOST = 3
_GRID = [(importers, archives) for archives in range(1, _MOST + 1) for importers in range(1, _MOST + 1)]
_DIAGONAL = [(number, number) for number in range(1, _MOST + 1)]
_UID = "1.2.826.0.1.3680043.8.498.7{:012}.{}"
_SMALL, _CT = 122, 512
_PARTS = ("importers", "Orthancs", "PostgreSQL")
_DRAIN_SECONDS = 120
_TICKS = os.sysconf("SC_CLK_TCK")


class _Cost(NamedTuple):
    """What one delivery took: processors busy with it, and with anything; seconds a file, by `_PARTS`."""

    busy: tuple[float, float]
    shares: list[float]


@dataclass
class _Site:
    """One inbox, one catalog, three archives on one index; what each delivery took of the processors."""

    folder: Path
    catalog: Catalog
    database_url: str
    archives: list[Orthanc]
    server: postgresql.Server
    numbers: Iterator[int] = field(default_factory=count)
    costs: dict[tuple[int, int, int], list[_Cost]] = field(default_factory=dict)

    def rate(self, importers: int, archives: int, *, size: int, files: int) -> float:
        """Files a second, from their delivery until the last is filed; `files` for each clinic."""
        with self._importing(importers, archives) as processes:
            total = files * len(_CLINICS)
            self._make(files, size)
            began, before = time.monotonic(), self._spent(processes)
            self._deliver()
            wait_until(lambda: not self._waiting(), _DRAIN_SECONDS, "all are filed", every=0.05)
            seconds = time.monotonic() - began
            spent = [now - was for now, was in zip(self._spent(processes), before, strict=True)]
        stored = sum(1 for _ in (self.folder / "processed").rglob("*.dcm"))
        if stored != total:
            raise SystemExit(f"{stored} files of {total} were stored")
        (self.folder / "processed").rename(self.folder / f"processed-{next(self.numbers)}")
        whole, *ours = spent
        busy = (sum(ours) / seconds, whole / seconds)
        self.costs.setdefault((importers, archives, size), []).append(
            _Cost(busy, [each / total for each in ours])
        )
        return total / seconds

    def _spent(self, importers: Sequence[subprocess.Popen[bytes]]) -> list[float]:
        """Seconds of the processors: of the whole machine, whoever had them, and of `_PARTS`."""
        whole = Path("/proc/stat").read_text().split()[1:4]
        return [
            sum(map(int, whole)) / _TICKS,
            cpu_seconds([each.pid for each in importers]),
            cpu_seconds([each.process.pid for each in self.archives]),
            _postgresql_seconds(self.server),
        ]

    @contextmanager
    def _importing(self, importers: int, archives: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        """So many importers, each with its share of the clinics."""
        logs = [self.folder / f"importer-{next(self.numbers)}.log" for _ in range(importers)]
        processes = [self._start(self.archives[number % archives], log) for number, log in enumerate(logs)]
        try:
            share = len(_CLINICS) // importers
            wait_until(
                lambda: all(_served(log) == share for log in logs), 60, "the clinics are shared", every=0.1
            )
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()

    def _start(self, archive: Orthanc, log: Path) -> subprocess.Popen[bytes]:
        environment = {
            "DATA_PATH": str(self.folder),
            "DATABASE_URL": self.database_url,
            "ARCHIVE_URL": archive.dicomweb_url,
            "ARCHIVE_USERNAME": archive.username,
            "ARCHIVE_PASSWORD": archive.password,
            "COOLDOWN_SECONDS": "0.2",
            "RESCAN_SECONDS": "0.3",
            "IMPORTER_PORT": "0",
        }
        with log.open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "importer"], env={**os.environ, **environment}, stderr=stream
            )

    def _make(self, files: int, size: int) -> None:
        for clinic_id in _CLINICS:
            made = self.folder / "made" / clinic_id
            made.mkdir(parents=True)
            _write_study(made, next(self.numbers), files, size)

    def _deliver(self) -> None:
        for clinic_id in _CLINICS:
            (self.folder / "made" / clinic_id).rename(self.folder / "inbox" / clinic_id / "study")

    def _waiting(self) -> int:
        waiting = 0
        for clinic_id in _CLINICS:
            with suppress(FileNotFoundError):
                waiting += sum(1 for _ in (self.folder / "inbox" / clinic_id / "study").iterdir())
        return waiting


def _write_study(folder: Path, number: int, files: int, size: int) -> None:
    # Encoded once; they differ in the last digits of a number only.
    uids = [_UID.format(number, part) for part in (1, 2, "3.10000")]
    template = instance_bytes(
        "CT", study_uid=uids[0], series_uid=uids[1], sop_instance_uid=uids[2], seed=number, size=size
    )
    for each in range(files):
        mine = _UID.format(number, f"3.{10000 + each}")
        (folder / f"IM{each:04}.dcm").write_bytes(template.replace(uids[2].encode(), mine.encode()))


def _served(log: Path) -> int:
    said = log.read_text()
    return said.count('"a clinic is served"') - said.count('"a clinic is served no longer"')


def _postgresql_seconds(server: postgresql.Server) -> float:
    """Of all its processes, those that have ended, too."""
    pid = int((server.cluster.data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    seconds = cpu_seconds([pid]) + sum(map(int, ended)) / _TICKS
    for child in children:
        with suppress(FileNotFoundError):
            seconds += cpu_seconds([int(child)])
    return seconds


@contextmanager
def _running(folder: Path) -> Iterator[_Site]:
    with ExitStack() as stack:
        server = stack.enter_context(postgresql.running())
        replicas = {"DICOM_STORAGE_PATH": str(folder / "dicom"), "ORTHANC_DB_LOCK": "false"}
        archives = [
            stack.enter_context(orthanc.running(folder / f"orthanc-{number}", server, **replicas))
            for number in range(_MOST)
        ]
        url = server.new_catalog()
        catalog = Catalog.open(SecretStr(url))
        stack.callback(catalog.close)
        with catalog.write() as connection:
            for clinic_id in _CLINICS:
                (folder / "inbox" / clinic_id).mkdir(parents=True)
                clinics.add(connection, clinic_id, clinic_id.title(), datetime.now(UTC))
        yield _Site(folder, catalog, url, archives, server)


def run(options: Options) -> Iterator[Figure]:
    """Small files over the whole grid, CT files where each importer has an Orthanc of its own."""
    rounds = 1 if options.quick else 3
    with _running(options.folder) as site:
        site.rate(1, 1, size=_SMALL, files=5)
        site.costs.clear()
        options.say("small files")
        small = _measure(site, _GRID, rounds, size=_SMALL, files=60 if options.quick else 100)
        options.say("CT files")
        ct = _measure(site, _DIAGONAL, rounds, size=_CT, files=20 if options.quick else 40)
    for number in range(2, _MOST + 1):
        yield _figure(number, small, ct, site)


def _measure(
    site: _Site, cells: list[tuple[int, int]], rounds: int, *, size: int, files: int
) -> dict[tuple[int, int], Sample]:
    subjects = {
        f"{importers} {archives}": lambda importers=importers, archives=archives: site.rate(
            importers, archives, size=size, files=files
        )
        for importers, archives in cells
    }
    found = interleaved(subjects, rounds)
    return dict(zip(cells, (found[f"{one} {other}"] for one, other in cells), strict=True))


def _figure(
    number: int, small: dict[tuple[int, int], Sample], ct: dict[tuple[int, int], Sample], site: _Site
) -> Figure:
    rows = [Row(f"{_name(*cell)}, 30 KB", "files/s", sample) for cell, sample in small.items()]
    rows += [Row(f"{_name(*cell)}, CT", "CT files/s", sample) for cell, sample in ct.items()]
    for cell in _DIAGONAL:
        ours, whole = zip(*(cost.busy for cost in site.costs[*cell, _SMALL]), strict=True)
        unit = f"of {os.cpu_count()}"
        rows.append(Row(f"{_name(*cell)}, 30 KB: processors busy with it", unit, Sample(ours)))
        rows.append(Row(f"{_name(*cell)}, 30 KB: processors busy in all", unit, Sample(whole)))
    lines = {
        f"{archives} Orthanc{'s' * (archives > 1)}": [
            (importers, sample.median) for (importers, of), sample in small.items() if of == archives
        ]
        for archives in range(1, _MOST + 1)
    }
    return Figure(
        key=f"IMPORTERS-{number}",
        what=f"{number} importers on one inbox of 12 clinics, each with an Orthanc, 30 KB files",
        unit="files/s",
        ours=small[number, number],
        peer=small[1, 1],
        peer_name="1 importer, 1 Orthanc",
        goal=Goal("ratio", at_least=1.0),
        rows=tuple(rows),
        curves=(Curve("importers", "files/s", lines),),
        note=_note(site),
    )


def _name(importers: int, archives: int) -> str:
    return f"{importers} importer{'s' * (importers > 1)} on {archives} Orthanc{'s' * (archives > 1)}"


def _note(site: _Site) -> str:
    def each(cell: tuple[int, int], size: int) -> str:
        shares = zip(*(cost.shares for cost in site.costs[*cell, size]), strict=True)
        told = (f"{1000 * median(share):.1f} {part}" for share, part in zip(shares, _PARTS, strict=True))
        return ", ".join(told)

    return (
        f"Importers, Orthancs and PostgreSQL (index and catalog) share {os.cpu_count()} processors here. "
        f"Milliseconds of processor a file: 30 KB {each((1, 1), _SMALL)}; the same with 3 on 3 "
        f"{each((3, 3), _SMALL)}; CT {each((1, 1), _CT)}. What one importer leaves unused of the "
        "processors is all that a further one on the same machine can win; on machines of their own, "
        "importers and Orthancs leave PostgreSQL as what they share."
    )
