"""Long lists of series and instances: how many are put together at a time, and how many of them for one."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTINGS_AT_ONCE = 4
"""That one process puts together at a time: with two processes 256 MB of the container's 1 GB."""
OF_ONE_SUBJECT = 2
"""Of these; the rest is for others."""
WAIT_SECONDS = 10
_BUSY = "Too many lists are being put together. Please try again."


class Listings:
    """Lets requests in that have a place to wait for the archive (`gateway.places`). Threads share one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work: Counter[str] = Counter()

    @contextmanager
    def turn(self, subject: str) -> Iterator[None]:
        """Wait for room, and have it for as long as the block takes.

        Raises:
            Unavailable: there is none for this subject.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(subject), WAIT_SECONDS):
                raise Unavailable(_BUSY)
            self._at_work[subject] += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work[subject] -= 1
                if not self._at_work[subject]:
                    del self._at_work[subject]
                self._changed.notify_all()

    def _has_room(self, subject: str) -> bool:
        return self._at_work[subject] < OF_ONE_SUBJECT and self._at_work.total() < LISTINGS_AT_ONCE
