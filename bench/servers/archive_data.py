"""Orthanc with many tiny studies, one image each: loaded once, kept under .cache/bench, used in place.

`running` loads what is missing. To load by steps, as long as it exits 3:

    PYTHONPATH=tests python -m bench.servers.archive_data 100000 postgresql --seconds 150
"""

from __future__ import annotations

import fcntl
import json
import random
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import psycopg
from pydantic import SecretStr

from bench.servers import orthanc, postgresql
from bench.servers.tiny_study import Study
from pacs.archive import Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.settings import ArchiveSettings
from support import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.orthanc import Orthanc

Index = Literal["sqlite", "postgresql"]

ROOT = Path(__file__).parents[2] / ".cache" / "bench"

_BATCH = 1000
_PER_REQUEST = 50
_CONNECTIONS = 4
_PIECE = 2**20
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Only while it is loaded: the series' metadata are not kept, as if nobody had seen a study since it came in.
_LOADING = {
    '"SyncStorageArea": true': '"SyncStorageArea": false',
    '"EnableMetadataCache": true': '"EnableMetadataCache": false',
}


@contextmanager
def running(
    studies: int, index: Index, *, say: Callable[[str], None] = print, **variables: str
) -> Iterator[Orthanc]:
    """An Orthanc that holds studies 0 to `studies` - 1 and works as production's does, until the block ends.

    Waits for whoever uses the same one. What is stored or deleted meanwhile stays so.

    Args:
        studies: how many.
        index: where their index is.
        say: told of the loading, which takes minutes.
        variables: for orthanc.json, over ours.
    """
    with _Kept.opened(studies, index) as kept:
        while not kept.load(until=time.monotonic() + 60, say=say):
            pass
        kept.read_index()
        with kept.server(**variables) as server:
            yield server


def unseen(studies: int, index: Index, count: int) -> list[Study]:
    """Studies that no earlier call has named, in no order; to be asked for before it runs.

    When all were named they are loaded anew.
    """
    with _Kept.opened(studies, index) as kept:
        state = kept.state()
        if state["seen"] + count > studies:
            kept.remove()
            state = kept.state()
        while not kept.load(until=time.monotonic() + 60, say=print):
            pass
        numbers = list(range(studies))
        random.Random(1).shuffle(numbers)
        first = state["seen"]
        kept.write(kept.state() | {"seen": first + count})
        return [Study.of(number) for number in numbers[first : first + count]]


@dataclass(frozen=True)
class _Kept:
    """One archive's folder."""

    folder: Path
    studies: int
    index: Index

    @classmethod
    @contextmanager
    def opened(cls, studies: int, index: Index) -> Iterator[_Kept]:
        """For one at a time."""
        folder = ROOT / f"orthanc-{studies}-{'pg' if index == 'postgresql' else index}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cls(folder, studies, index)

    def _made_with(self) -> dict[str, str]:
        return {"orthanc": orthanc.version(), "postgresql": str(postgres.binaries())}

    def state(self) -> dict[str, int]:
        """How many are loaded, and how many were named by `unseen`; other servers' files are thrown away."""
        path = self.folder / "state.json"
        if path.exists():
            state = json.loads(path.read_text())
            if state.pop("made_with") == self._made_with():
                return state
        self.remove()
        return {"loaded": 0, "seen": 0}

    def remove(self) -> None:
        """Throw it all away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, state: dict[str, int]) -> None:
        (self.folder / "state.json").write_text(json.dumps(state | {"made_with": self._made_with()}))

    def load(self, *, until: float, say: Callable[[str], None]) -> bool:
        """Go on with loading; False when the time was up before it was done."""
        state = self.state()
        if state["loaded"] >= self.studies:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._loader() as archive, ThreadPoolExecutor(_CONNECTIONS) as senders:
            while state["loaded"] < self.studies and time.monotonic() < until:
                first = state["loaded"]
                numbers = range(first, min(first + _BATCH, self.studies))
                slices = [
                    numbers[each : each + _PER_REQUEST] for each in range(0, len(numbers), _PER_REQUEST)
                ]
                list(senders.map(lambda some: _store(archive, some), slices))
                state["loaded"] = numbers.stop
                self.write(state)
                say(f"{numbers.stop} of {self.studies} studies are in {self.folder.name}")
        return state["loaded"] >= self.studies

    def read_index(self) -> None:
        """Into the system's cache, where a server that has run for a while has it."""
        files = "postgresql/base/*/*" if self.index == "postgresql" else "storage/index*"
        for path in self.folder.glob(files):
            with path.open("rb") as file:
                while file.read(_PIECE):
                    pass

    @contextmanager
    def _loader(self) -> Iterator[DicomWebArchive]:
        # An hour: no series becomes stable meanwhile, which is work.
        with self.server(fast=True, ORTHANC_STABLE_AGE="3600") as server:
            client = DicomWebArchive(
                ArchiveSettings(
                    archive_url=server.dicomweb_url,
                    archive_username=server.username,
                    archive_password=SecretStr(server.password),
                    archive_timeout_seconds=120,
                ),
                connections=_CONNECTIONS,
            )
            try:
                yield client
            finally:
                client.close()

    @contextmanager
    def server(self, *, fast: bool = False, **variables: str) -> Iterator[Orthanc]:
        """It runs; `fast` at the price of losing what was stored in a crash."""
        changes = _LOADING if fast else None
        if self.index == "sqlite":
            with orthanc.running(self.folder, changes=changes, **variables) as server:
                yield server
            return
        with postgresql.running(self.folder / "postgresql", **(_FAST if fast else {})) as database:
            with orthanc.running(self.folder, database, changes=changes, **variables) as server:
                yield server
            if fast:
                # What autovacuum does within minutes.
                _analyse(database)


def _analyse(database: postgresql.Server) -> None:
    with psycopg.connect(
        host=str(database.folder), user="orthanc", dbname="orthanc", autocommit=True
    ) as connection:
        connection.execute("VACUUM ANALYZE")


def _store(archive: DicomWebArchive, numbers: range) -> None:
    contents = [Study.of(number).file() for number in numbers]
    answer = archive.store([Part([content], len(content)) for content in contents])
    if len(answer.stored) != len(contents):
        raise SystemExit(f"Orthanc stored only {len(answer.stored)} of {len(contents)}: {answer.status}")


@click.command()
@click.argument("studies", type=int)
@click.argument("index", type=click.Choice(["sqlite", "postgresql"]))
@click.option("--seconds", type=float, default=1e9)
def main(studies: int, index: Index, seconds: float) -> None:
    """Load, for so many seconds."""
    with _Kept.opened(studies, index) as kept:
        if not kept.load(until=time.monotonic() + seconds, say=click.echo):
            sys.exit(3)


if __name__ == "__main__":
    main()
