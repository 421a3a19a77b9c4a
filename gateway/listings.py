"""Long lists of series and instances: how many are put together at a time, and how many of them for one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTINGS_AT_ONCE = 4
"""That one process puts together at a time: with two processes 256 MB of the container's 1 GB."""
OF_ONE_SUBJECT = 2
"""Of these; the rest is for others."""
WAITING_MAX = 8
"""Requests of one subject that are here, at work or not: each has one of the process's 16 threads."""
OF_ALL_MAX = 12
"""Those of all subjects that may wait for long: other threads are for the catalog and for health checks."""
CROWD_SECONDS = 1
"""After a list was begun: until then others wait to be among them. Usual lists take a fraction of it."""
WAIT_SECONDS = 10
_BUSY = "Too many lists are being put together. Please try again."


class Listings:
    """Lets requests in. Threads share one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._here: Counter[str] = Counter()
        self._let_in: Counter[str] = Counter()
        self._at_work: Counter[str] = Counter()
        self._begun = time.monotonic()

    @contextmanager
    def turn(self, subject: str) -> Iterator[None]:
        """Wait for room, and have it for as long as the block takes.

        Raises:
            Unavailable: there is none for this subject.
        """
        if not self._at_work:
            self._begun = time.monotonic()
        # While an archive hangs none is begun, and of the threads that are left, none is to wait for it.
        patience = self._begun + CROWD_SECONDS - time.monotonic()
        with (
            self._counted(self._here, subject, lambda: self._here[subject] < WAITING_MAX, 0),
            self._counted(self._let_in, subject, lambda: self._let_in.total() < OF_ALL_MAX, patience),
            self._counted(self._at_work, subject, lambda: self._has_room(subject), WAIT_SECONDS),
        ):
            self._begun = time.monotonic()
            yield

    def _has_room(self, subject: str) -> bool:
        return self._at_work[subject] < OF_ONE_SUBJECT and self._at_work.total() < LISTINGS_AT_ONCE

    @contextmanager
    def _counted(
        self, counts: Counter[str], subject: str, has_room: Callable[[], bool], seconds: float
    ) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(has_room, seconds):
                raise Unavailable(_BUSY)
            counts[subject] += 1
        try:
            yield
        finally:
            with self._changed:
                counts[subject] -= 1
                if not counts[subject]:
                    del counts[subject]
                self._changed.notify_all()
