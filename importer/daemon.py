"""The importer: its parts put together, its threads, its life.

The scanner's thread finds stable files, the reader's decides, uploaders send and file, the bookkeeper's
keeps the catalog up. Nothing is kept but in the folders, the archive and the catalog: wherever this
process dies, the next one goes on from there.
"""

from __future__ import annotations

import time
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

from importer.assembly import Assembly
from importer.inbox.scanner import BEAT_SECONDS, HINT_SECONDS
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from importer.files.filing import Filer
    from importer.inbox.locks import ClinicLocks
    from importer.inbox.stability import Ripe
    from importer.reading.batch import Batch
    from importer.settings import ImporterSettings
    from importer.work import End, Result, WaitingFile
    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId

_log = logs.get(__name__)

STOP_SECONDS = 10.0
SHOW_SECONDS = 10.0
"""How often the row of a study is brought up to date while it is imported."""
_STALLED_SECONDS = 300.0
_RENEW_SECONDS = 1.0
_BUGS_IN_A_ROW = 20


def local_now() -> datetime:
    """Now, in TZ."""
    return datetime.now().astimezone()


class Importer:
    """One importer. `start` it, `supervise` it every second or so, `stop` it."""

    def __init__(
        self,
        settings: ImporterSettings,
        catalog: Catalog,
        archive: Archive,
        locks: ClinicLocks,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = local_now,
        filer: Filer | None = None,
        hint_seconds: float = HINT_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        show_seconds: float = SHOW_SECONDS,
    ) -> None:
        self._locks, self._clock = locks, clock
        self._beat_seconds, self._show_seconds = beat_seconds, show_seconds
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        parts = Assembly(settings, catalog, archive, locks, clock=clock, now=now, filer=filer)
        self.metrics, self.health, self._claims = parts.metrics, parts.health, parts.claims
        self._reader = parts.reader(self._release)
        self._bookkeeper = parts.bookkeeper(nothing_waits=lambda: not self.in_hand)
        self._scanner = parts.scanner(
            deliver=self._deliver,
            give_up=lambda clinic_id: self._news.put(lambda: self._reader.give_up(clinic_id)),
            is_idle=lambda clinic_id: not self._reader.totals.in_hand[clinic_id],
            looked=self._bookkeeper.sweep,
            hint_seconds=hint_seconds,
            beat_seconds=beat_seconds,
        )
        self._workers = parts.workers(self._done)
        self._threads: list[Thread] = []
        self._last_turn = clock()
        self._stopping = False
        self._stopped = Event()

    def _deliver(self, clinic_id: ClinicId, ripe: Iterable[Ripe]) -> None:
        self._news.put(lambda: self._reader.take_in(clinic_id, ripe))

    def _release(self, file: WaitingFile, end: End) -> None:
        self._scanner.release(file, end)

    def _done(self, batch: Batch, results: list[Result]) -> None:
        self._news.put(lambda: self._reader.take_back(batch, results))

    # How it is

    @property
    def in_hand(self) -> int:
        """Stable files that are not finished."""
        return self._reader.totals.in_hand.total()

    @property
    def outcomes(self) -> dict[str, int]:
        """Files finished since the start, by outcome."""
        return dict(self._reader.totals.outcomes)

    @property
    def full_looks(self) -> int:
        """How often all of the inbox was looked through."""
        return self._scanner.full_looks

    @property
    def only_cools(self) -> bool:
        """Whether files are there, and all that is to be done is to wait until they are stable."""
        return self._scanner.presence.up and self._scanner.waiting > 0 and not self.in_hand

    @property
    def is_drained(self) -> bool:
        """Whether, as of the last full look, nothing waits and everything is written down."""
        return (
            self._scanner.full_looks > 0
            and self._scanner.presence.up
            and self.health.catalog.up
            and not self._scanner.waiting
            and not self.in_hand
            and self._claims.next_idle(self._clock()) is None
            and self._bookkeeper.is_idle
        )

    def alive(self) -> dict[str, bool]:
        """Whether each part works; a restart helps where one does not."""
        checks = {thread.name: thread.is_alive() for thread in self._threads}
        return checks | {
            "turning": self._clock() - self._last_turn < _STALLED_SECONDS,
            "scanning": not self._scanner.presence.pulse.hangs,
            "bookkeeping": not self._bookkeeper.pulse.hangs,
        }

    def ready(self) -> dict[str, bool]:
        """Whether files get through now."""
        return {
            "archive": self.health.archive.up,
            "catalog": self.health.catalog.up,
            "inbox": self._scanner.presence.up,
        }

    # Its life

    def start(self) -> None:
        """Start the threads."""
        self._workers.start()
        loops = {
            "scanner": self._scanner.run,
            "reader": self._read,
            "bookkeeper": self._bookkeeper.run,
            "locks": self._keep_locks,
        }
        self._threads = [Thread(target=run, name=name, daemon=True) for name, run in loops.items()]
        for thread in self._threads:
            thread.start()

    def supervise(self) -> bool:
        """Replace uploaders that died; False when another part has, which only a restart mends."""
        self._workers.revive()
        self._scanner.presence.watch()
        return all(self.alive().values())

    def stop(self, timeout: float | None = None) -> bool:
        """Finish the batches under way; False when some were not done in time: end the process then.

        `timeout` is in seconds; STOP_SECONDS if it is left out.
        """
        deadline = time.monotonic() + (STOP_SECONDS if timeout is None else timeout)
        self._stopping = True
        self._scanner.stop()
        scanner, reader, bookkeeper, locks = self._threads
        self._workers.stop()
        finished = self._workers.join(deadline - time.monotonic())
        self._news.put(lambda: None)
        reader.join(max(0.0, deadline - time.monotonic()))
        self._bookkeeper.stop()
        self._stopped.set()
        for thread in (bookkeeper, scanner, locks):
            thread.join(max(0.0, deadline - time.monotonic()))
        finished = finished and not any(thread.is_alive() for thread in self._threads)
        if finished:
            self._locks.close()
        return finished

    def _keep_locks(self) -> None:
        # In a thread of its own, because it hangs with a catalog that does.
        while not self._stopped.wait(_RENEW_SECONDS):
            self._locks.renew()

    # The reader's thread

    def _read(self) -> None:
        bugs = 0
        while bugs < _BUGS_IN_A_ROW:
            try:
                # In this order: the last worker's news may come between the two questions.
                if self._stopping and self._workers.join(0.0) and self._news.empty():
                    break
                self._read_once()
                bugs = 0
            except Exception as error:  # noqa: BLE001 - the files lie in the inbox, whatever happens here
                bugs += 1
                self.metrics.bugs.inc()
                _log.error("the reader stumbled", exc_info=error)
        self._end_studies(idle=0.0)

    def _read_once(self) -> None:
        batch = None if self._stopping else self._reader.turn()
        if batch:
            self._workers.give(batch)
        self._take_news(0.0 if batch is not None else self._patience())
        self._end_studies()
        self._last_turn = self._clock()

    def _patience(self) -> float:
        now = self._clock()
        waits = (self._reader.due(), self._claims.next_idle(now))
        return min([self._beat_seconds, *(wait for wait in waits if wait is not None)])

    def _take_news(self, timeout: float) -> None:
        try:
            news = self._news.get(timeout=timeout) if timeout > 0 else self._news.get_nowait()
            while True:
                news()
                news = self._news.get_nowait()
        except Empty:
            return

    def _end_studies(self, **idle: float) -> None:
        now = self._clock()
        for study in self._claims.take_idle(now, **idle):
            self._bookkeeper.study_ended(study)
        for study in self._claims.take_shown_before(now, self._show_seconds):
            self._bookkeeper.study_goes_on(study)
