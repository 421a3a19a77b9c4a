"""What single files wait for: written on the file, for those that decide, and counted."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from importer.metrics import ImporterMetrics
    from importer.work import WaitingFile


class Holding:
    """The files that wait for something. Safe to share among threads."""

    def __init__(self, metrics: ImporterMetrics) -> None:
        self._metrics = metrics
        self._held: Counter[Gauge] = Counter()
        self._lock = Lock()

    def note(self, file: WaitingFile, *, blocked: str = "", stuck: bool = False) -> bool:
        """A file begins to wait for this, or for nothing any more.

        Returns whether it is the clinic's first file that does: whoever logs it then says it once, however
        many follow.
        """
        first = False
        if file.blocked != blocked:
            gauge = self._metrics.blocked
            if file.blocked:
                self._add(gauge.labels(file.clinic_id, file.blocked), -1)
            if blocked:
                first = self._add(gauge.labels(file.clinic_id, blocked), 1)
            file.blocked = blocked
        if file.stuck != stuck:
            first |= self._add(self._metrics.stuck.labels(file.clinic_id), 1 if stuck else -1)
            file.stuck = stuck
        return first

    def _add(self, gauge: Gauge, change: int) -> bool:
        """Whether this is the first of those that are held."""
        gauge.inc(change)
        with self._lock:
            self._held[gauge] += change
            return change > 0 and self._held[gauge] == 1
