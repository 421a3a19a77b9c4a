"""An importer with real folders, a real catalog and an archive on a real socket."""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import select

from importer.daemon import SHOW_SECONDS, Importer, local_now
from importer.files.failed import FailedFile, failed_files
from importer.files.filing import Filer
from importer.files.scratch import SCRATCH
from importer.inbox.advisory import AdvisoryLocks
from importer.inbox.locks import InboxLock
from importer.inbox.scanner import BEAT_SECONDS
from importer.settings import ImporterSettings
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, clinics, ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import imports, series, studies
from pacs.ids import ClinicId
from support.corpus import instance_bytes
from support.dicom_files import read_bytes
from support.stow_server import StowServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Table

    from importer.sending.health import Gate

NORTH, SOUTH = ClinicId("northside"), ClinicId("southside")


SPEED = 20.0


def fast() -> float:
    """A clock on which a second takes a twentieth."""
    return time.monotonic() * SPEED


def _files_below(base: Path) -> Iterator[Path]:
    """All but folders, sorted; a folder that vanishes meanwhile is passed by, unlike with Path.rglob."""
    for folder, folders, names in os.walk(base):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


class TurnedClock:
    """A clock that can be put forward, or back."""

    def __init__(self) -> None:
        self._off = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._off

    def wall(self) -> datetime:
        return local_now() + timedelta(seconds=self._off)

    def turn(self, seconds: float) -> None:
        self._off += seconds


def wait_until(condition: Callable[[], Any], seconds: float = 60, what: str = "") -> Any:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"did not happen within {seconds} s {what}"
        time.sleep(0.01)


def wait_for_looks(importer: Importer) -> None:
    """What the looks under way now bring about has come about after three more, and the bookkeeper's work."""
    looked = importer.full_looks
    wait_until(lambda: importer.full_looks > looked + 2)
    # A thread of its own, which may be late by any number of looks: it is told of each, and does the last.
    wait_until(lambda: importer._bookkeeper.is_idle, what="the bookkeeper has done what it was told")


def observe(gate: Gate, told: Callable[[bool], object]) -> None:
    """Have `told` called with each new state of a gate, by the thread that brings it about."""

    def watched(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: Any, **kwargs: Any) -> None:
            before = gate.up
            change(*args, **kwargs)
            if gate.up != before:
                told(gate.up)

        return changed

    gate.failed, gate.succeeded = watched(gate.failed), watched(gate.succeeded)  # type: ignore[method-assign]


@dataclass
class World:
    """One platform in a temporary folder."""

    data: Path
    catalog: Catalog
    database_url: str
    server: StowServer = field(default_factory=StowServer)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def inbox(self) -> Path:
        return self.options.get("inbox_path", self.data / "inbox")

    @property
    def processed(self) -> Path:
        return self.options.get("processed_path", self.data / "processed")

    @property
    def failed(self) -> Path:
        return self.options.get("failed_path", self.data / "failed")

    def settings(self, **more: Any) -> ImporterSettings:
        values: dict[str, Any] = {
            "data_path": self.data,
            "database_url": SecretStr(self.database_url),
            "archive_url": self.server.url,
            "archive_timeout_seconds": 5,
            "archive_stable_age_seconds": 0,
            "cooldown_seconds": 0.05,
            "rescan_seconds": 0.1,
            "importer_port": 0,
            "importer_host": "127.0.0.1",
        }
        return ImporterSettings(_env_file=None, **(values | self.options | more))

    def add_clinic(self, clinic_id: ClinicId) -> None:
        (self.inbox / clinic_id).mkdir(parents=True, exist_ok=True)
        with self.catalog.write() as connection:
            clinics.add(connection, clinic_id, clinic_id.title(), datetime.now(UTC))

    def know(self, content: bytes, clinic: ClinicId) -> None:
        """The study of this file is reserved already: the archive is not asked whose it is."""
        header = read_bytes(content)
        claim = Claim(clinic, header.study_instance_uid, header.series_instance_uid, header.patient_id)
        with self.catalog.write() as connection:
            ownership.reserve(connection, claim, datetime.now(UTC))

    def drop(
        self, path: str, content: bytes | None = None, clinic: ClinicId = NORTH, **instance: Any
    ) -> bytes:
        """Put a file into an inbox as a clinic does; makes an instance unless it is told the bytes."""
        if content is None:
            content = instance_bytes(**({"seed": path, "size": 4} | instance))
        place = self.inbox / clinic / path
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = place.with_name(f".{time.monotonic_ns()}")
        hidden.write_bytes(content)
        hidden.rename(place)
        return content

    @contextmanager
    def running(
        self,
        *,
        archive: Any = None,
        filer: Filer | None = None,
        catalog: Catalog | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = local_now,
        beat_seconds: float = BEAT_SECONDS,
        show_seconds: float = SHOW_SECONDS,
        **more: Any,
    ) -> Iterator[Importer]:
        """The importer at work."""
        settings = self.settings(**more)
        settings.inbox_path.mkdir(parents=True, exist_ok=True)
        client = archive or DicomWebArchive(settings, connections=settings.upload_workers + 1)
        inbox = settings.inbox_path
        locks = InboxLock(inbox) if self.catalog.is_sqlite else AdvisoryLocks(self.catalog, inbox)
        importer = Importer(
            settings,
            catalog or self.catalog,
            client,
            locks,
            filer=filer,
            clock=clock,
            now=now,
            # What spares a large inbox and a slow disk a test need not wait for.
            hint_seconds=0.02,
            beat_seconds=beat_seconds,
            show_seconds=show_seconds,
        )
        importer.start()
        try:
            yield importer
            assert importer.supervise()
        finally:
            stopped = importer.stop(30)
        assert stopped

    @contextmanager
    def running_fast(self, **more: Any) -> Iterator[Importer]:
        """The importer on a clock that runs SPEED times as fast; waits are on the real clock all the same."""
        with self.running(
            clock=fast, beat_seconds=0.02, cooldown_seconds=1, rescan_seconds=2, **more
        ) as importer:
            yield importer

    def filer(self, **more: Any) -> Filer:
        return Filer(self.inbox, self.processed, self.failed, now=local_now, **more)

    def files(self, root: Path, clinic: ClinicId = NORTH) -> dict[str, bytes]:
        """What lies below a clinic's folder of a tree, without the day's folder."""
        base = root / clinic
        found = {}
        for path in _files_below(base):
            parts = path.relative_to(base).parts
            # The importer may take the file away just now.
            with suppress(FileNotFoundError):
                if SCRATCH not in parts and stat.S_ISREG(path.lstat().st_mode):
                    found["/".join(parts if root == self.inbox else parts[1:])] = path.read_bytes()
        return found

    def done(self, clinic: ClinicId = NORTH) -> dict[str, bytes]:
        return self.files(self.processed, clinic)

    def failures(self, clinic: ClinicId = NORTH) -> dict[str, FailedFile]:
        return {file.path: file for file in failed_files(self.failed, clinic)}

    def reasons(self, clinic: ClinicId = NORTH) -> dict[str, str]:
        return {
            path: file.report.reason if file.report else "unexplained"
            for path, file in self.failures(clinic).items()
        }

    def waiting(self, clinic: ClinicId = NORTH) -> dict[str, bytes]:
        return self.files(self.inbox, clinic)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.catalog.read() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def study(self, uid: str) -> dict[str, Any] | None:
        return next((row for row in self.rows(studies) if row["study_uid"] == uid), None)

    def owned_series(self) -> dict[str, str]:
        return {row["series_uid"]: row["clinic_id"] for row in self.rows(series)}

    def imports(self) -> list[dict[str, Any]]:
        return self.rows(imports)


def metric(importer: Importer, name: str, **labels: str) -> float | None:
    """One sample of the importer's metrics."""
    return importer.metrics.registry.get_sample_value(name, labels)
