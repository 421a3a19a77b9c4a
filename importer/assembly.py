"""The importer's parts, each made of what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.bookkeeper import Bookkeeper
from importer.files.failed import stored_since
from importer.files.filing import Filer
from importer.files.processed_watch import ProcessedWatch
from importer.inbox.scanner import Scanner
from importer.ledger import Ledger
from importer.metrics import ImporterMetrics
from importer.reading.claims import Claims
from importer.reading.holding import Holding
from importer.reading.reader import Reader
from importer.sending.health import Health
from importer.sending.looking_up import LookUp
from importer.sending.upload import Uploader
from importer.sending.workers import Workers
from pacs.archive import ArchiveUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from importer.files.failed import FailedFile
    from importer.inbox.locks import ClinicLocks
    from importer.inbox.stability import Ripe
    from importer.reading.batch import Batch
    from importer.settings import ImporterSettings
    from importer.work import End, Result, WaitingFile
    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId


class Assembly:
    """Makes the parts; each method connects one by what it is called with."""

    def __init__(
        self,
        settings: ImporterSettings,
        catalog: Catalog,
        archive: Archive,
        locks: ClinicLocks,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        filer: Filer | None,
    ) -> None:
        self._settings, self._catalog, self._archive, self._locks = settings, catalog, archive, locks
        self._clock, self._now = clock, now
        folders = settings.inbox_path, settings.processed_path, settings.failed_path
        self._filer = filer or Filer(*folders, now=now)
        self.metrics = ImporterMetrics(clock)
        self.health = Health(self.metrics)
        self.claims = Claims(catalog, now)
        self._holding = Holding(self.metrics)
        self._ledger = Ledger()
        self._filed = ProcessedWatch(self._filer.processed, self._filer.inbox, clock=clock)

    def reader(self, release: Callable[[WaitingFile, End], None]) -> Reader:
        """What decides."""
        return Reader(
            self._filer,
            self.claims,
            self.health,
            self.metrics,
            self._ledger,
            holding=self._holding,
            clock=self._clock,
            release=release,
            capacity=self._settings.upload_workers + 1,
        )

    def bookkeeper(self, nothing_waits: Callable[[], bool]) -> Bookkeeper:
        """What keeps the catalog up."""
        return Bookkeeper(
            self._catalog,
            self._archive,
            self.claims,
            self._ledger,
            self.health,
            metrics=self.metrics,
            stable_age_seconds=self._settings.archive_stable_age_seconds,
            clock=self._clock,
            now=self._now,
            nothing_waits=nothing_waits,
        )

    def scanner(
        self,
        *,
        deliver: Callable[[ClinicId, Iterable[Ripe]], None],
        give_up: Callable[[ClinicId], None],
        is_idle: Callable[[ClinicId], bool],
        looked: Callable[[Collection[ClinicId]], None],
        hint_seconds: float,
        beat_seconds: float,
    ) -> Scanner:
        """What finds stable files."""
        return Scanner(
            self._catalog,
            self._locks,
            self._filer,
            self.health,
            self.metrics,
            cooldown=self._settings.cooldown_seconds,
            rescan=self._settings.rescan_seconds,
            clock=self._clock,
            now=self._now,
            deliver=deliver,
            give_up=give_up,
            is_idle=is_idle,
            looked=looked,
            was_stored=self._was_stored,
            filed=self._filed,
            hint_seconds=hint_seconds,
            beat_seconds=beat_seconds,
        )

    def _was_stored(self, file: FailedFile) -> bool:
        if not self.health.archive.up:
            raise ArchiveUnavailableError(self.health.archive.reason)
        return stored_since(self._archive, file)

    def workers(self, done: Callable[[Batch, list[Result]], None]) -> Workers:
        """What sends and files."""
        uploader = Uploader(
            self._archive,
            self._filer,
            self.claims,
            self.health,
            self.metrics,
            holding=self._holding,
            look_up=LookUp(self._catalog, self._archive, self._now),
            filed=self._filed,
            is_ours=self._locks.is_ours,
            clock=self._clock,
            now=self._now,
        )
        return Workers(uploader, self.metrics, self._holding, self._settings.upload_workers, done)
