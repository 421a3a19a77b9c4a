"""Our importer as production runs it, a daemon of its own, and what it takes to drain an inbox."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from pydantic import SecretStr

from bench.rounds import cpu_seconds
from bench.servers.inbox_data import CLINIC, link
from demo.processes import free_port
from pacs.catalog import Catalog, clinics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.orthanc import Orthanc

_ROOT = Path(__file__).parents[2]
_COOLDOWN = 2.0
_WAIT_SECONDS = 300
_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Drained:
    """What it took: files a second, processor time in ms a file, and the importer's peak memory in MB."""

    rate: float
    importer: float
    server: float
    megabytes: float
    seconds: float


@dataclass
class Importer:
    """A running importer and the archive that it stores into."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    archive: Orthanc

    def drain(self, delivery: Path) -> Drained:
        """Deliver these files by one rename, and wait until the last one was stored and filed.

        The clock begins one cooldown after they were seen, when they are stable; it ends when none is left
        in the inbox.

        Raises:
            SystemExit: it took too long, or a file failed.
        """
        staged, inbox = self.data / "staged", self.data / "inbox" / CLINIC / "delivery"
        files = link(delivery, staged)
        pids = [self.process.pid], [self.archive.process.pid]
        before = [cpu_seconds(each) for each in pids]
        staged.rename(inbox)
        self._wait_seen(files)
        began = time.monotonic() + _COOLDOWN
        folders = sorted(path for path in inbox.rglob("*") if path.is_dir()) or [inbox]
        self._wait(lambda: _are_empty(folders), "the inbox is empty")
        seconds = time.monotonic() - began
        mine, theirs = (cpu_seconds(each) - was for each, was in zip(pids, before, strict=True))
        filed = sum(path.is_file() for path in (self.data / "processed").rglob("*"))
        if filed != files:
            raise SystemExit(f"only {filed} of {files} files were stored")
        return Drained(files / seconds, mine * 1000 / files, theirs * 1000 / files, self._peak(), seconds)

    def _wait_seen(self, files: int) -> None:
        self._wait(lambda: self._waiting() == files, "the importer sees the files")

    def wait_ready(self) -> None:
        """Until it has looked through the empty inbox."""
        self._wait(lambda: self._waiting() == 0, "the importer is ready")

    def _waiting(self) -> float | None:
        try:
            metrics = urllib3.request("GET", f"http://127.0.0.1:{self.port}/metrics", retries=False).data
        except urllib3.exceptions.HTTPError:
            return None
        found = re.search(rb"^importer_waiting_files\{.*\} (\S+)$", metrics, re.MULTILINE)
        return float(found[1]) if found else None

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"waited in vain until {what}")
            time.sleep(_LOOK_SECONDS)

    def _peak(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def _are_empty(folders: list[Path]) -> bool:
    """Whether nothing is left in them. Those that are empty leave the list, and of the others the first
    entry is enough: to look at all would cost what is measured."""
    while folders:
        try:
            with os.scandir(folders[0]) as entries:
                if next(entries, None) is not None:
                    return False
        except FileNotFoundError:
            pass
        del folders[0]
    return True


@contextmanager
def running(folder: Path, archive: Orthanc, database_url: str = "") -> Iterator[Importer]:
    """One with an empty inbox and a catalog of its own; only the cooldown is not the default."""
    data = folder / "data"
    data.mkdir(parents=True)
    url = database_url or f"sqlite:///{data}/catalog.db"
    with (catalog := Catalog.open(SecretStr(url))).write() as connection:
        clinics.add(connection, CLINIC, "Northside", datetime.now(UTC))
    catalog.close()
    (data / "inbox" / CLINIC).mkdir(parents=True)
    port = free_port()
    environment = os.environ | {
        "DATA_PATH": str(data),
        "DATABASE_URL": url,
        "ARCHIVE_URL": archive.dicomweb_url,
        "ARCHIVE_USERNAME": archive.username,
        "ARCHIVE_PASSWORD": archive.password,
        "COOLDOWN_SECONDS": str(_COOLDOWN),
        "IMPORTER_PORT": str(port),
    }
    with (folder / "importer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "importer"], env=environment, cwd=_ROOT, stdout=log, stderr=log
        )
    importer = Importer(process, port, data, archive)
    try:
        importer.wait_ready()
        yield importer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(data)
