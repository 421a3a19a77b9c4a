"""The uploaders' threads: whatever happens in one, its batch comes back, and it is replaced when it died."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from importer.sending.backoff import BUG_CAP_SECONDS, exponential
from importer.work import End, Result
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.metrics import ImporterMetrics
    from importer.reading.batch import Batch
    from importer.reading.holding import Holding
    from importer.sending.upload import Uploader

_log = logs.get(__name__)


class Workers:
    """So many threads around one uploader. `done` gets each batch back, from the worker's thread."""

    def __init__(
        self,
        uploader: Uploader,
        metrics: ImporterMetrics,
        holding: Holding,
        count: int,
        done: Callable[[Batch, list[Result]], None],
    ) -> None:
        self._uploader, self._done = uploader, done
        self._metrics, self._holding = metrics, holding
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._count = count
        self._threads: list[Thread] = []
        self._stopping = False

    def start(self) -> None:
        """Start the threads."""
        self._threads = [self._start(number) for number in range(self._count)]

    def _start(self, number: int) -> Thread:
        # A daemon thread: one that hangs in a request must not keep the process from ending.
        thread = Thread(target=self._run, name=f"uploader-{number}", daemon=True)
        thread.start()
        return thread

    def give(self, batch: Batch) -> None:
        """Work for the next worker that is free."""
        self._batches.put(batch)

    def revive(self) -> None:
        """Replace workers that died."""
        dead = [number for number, thread in enumerate(self._threads) if not thread.is_alive()]
        for number in dead if not self._stopping else []:
            _log.error("an uploader died and is replaced")
            self._threads[number] = self._start(number)

    def stop(self) -> None:
        """Let each worker finish the batch that it has; those that nobody began stay undone."""
        self._stopping = True
        with suppress(Empty):
            while True:
                self._batches.get_nowait()
        for _ in self._threads:
            self._batches.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the workers after `stop`; whether all have ended."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            results: list[Result] = []
            try:
                self._uploader.handle(batch, results)
            except Exception as error:  # noqa: BLE001 - one batch's oddity must not stop the others
                self._metrics.bugs.inc()
                _log.error("a batch could not be handled", clinic=batch.clinic_id, exc_info=error)
            finally:
                self._done(batch, results + self._unfinished(batch, results))

    def _unfinished(self, batch: Batch, results: list[Result]) -> list[Result]:
        finished = {id(result.file) for result in results}
        unfinished = [file for file in batch.files if id(file) not in finished]
        sent = {id(upload.file) for upload in batch.uploads}
        results = []
        for file in unfinished:
            self._holding.note(file, blocked="internal-error")
            # Alone from now on: should it be this one, the others of its batch get through.
            file.alone = True
            delay = exponential(file.attempt("internal-error"), first=1.0, cap=BUG_CAP_SECONDS)
            results.append(Result(file, End.LATER, sent=id(file) in sent, delay=delay))
        return results
