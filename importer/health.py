"""How the archive and the catalog are, as all threads of the importer know it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from importer.backoff import Gate

if TYPE_CHECKING:
    from importer.metrics import ImporterMetrics


class Health:
    """The two gates, and how many instances were stored: proof that the archive takes some."""

    def __init__(self, metrics: ImporterMetrics) -> None:
        self.archive = Gate("the archive", metrics.archive_up.set)
        self.catalog = Gate("the catalog", metrics.catalog_up.set)
        self._stored = 0
        self._lock = Lock()

    @property
    def stored(self) -> int:
        """Instances that the archive confirmed since the start."""
        return self._stored

    def add_stored(self, count: int) -> None:
        """So many more."""
        with self._lock:
            self._stored += count
