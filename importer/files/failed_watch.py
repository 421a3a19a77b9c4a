"""Looks after the failed tree: counts what calls for attention, and returns what was written to since."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from importer.files.failed import failed_files, put_back, remove_orphan_reports
from importer.files.moving import MoveError
from pacs import logs
from pacs.archive import ArchiveUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from importer.files.failed import FailedFile
    from importer.metrics import ImporterMetrics
    from pacs.ids import ClinicId

_log = logs.get(__name__)

_EVERYTHING_SECONDS = 300.0
_EFFORT = 20.0


class FailedWatch:
    """One clinic's failed files.

    An in-place write leaves no trace in any folder's times, so each file is looked at: those of today and
    yesterday at every look, all of them at start and every five minutes; and less often than that where
    there are so many that looking takes long.

    `was_stored` is `stored_since`; when the archive does not answer it is asked at the next look.
    """

    def __init__(
        self,
        failed: Path,
        inbox: Path,
        clinic_id: ClinicId,
        metrics: ImporterMetrics,
        *,
        cooldown: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        was_stored: Callable[[FailedFile], bool],
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        self._failed, self._inbox, self._clinic_id = failed, inbox, clinic_id
        self._metrics, self._clock, self._now = metrics, clock, now
        self._was_stored, self._beat = was_stored, beat
        self._staying: set[FailedFile] = set()
        # File systems that keep whole or even seconds only round a time some time after it was set.
        self._tolerance_ns = int(min(2.0, cooldown / 2) * 1e9)
        self._counts: dict[str, int] = {}
        self._everything_due = 0.0
        self._due = 0.0

    def look(self) -> None:
        """Look, if it is time."""
        started = self._clock()
        if started < self._due:
            return
        everything = started >= self._everything_due
        days = None if everything else self._recent_days()
        try:
            self._look_at(days)
        except OSError as error:
            _log.warning("the failed files could not be read", clinic=self._clinic_id, exc_info=error)
        ended = self._clock()
        self._due = ended + _EFFORT * (ended - started)
        if everything:
            self._everything_due = ended + max(_EVERYTHING_SECONDS, _EFFORT * (ended - started))
        self._metrics.failed.labels(self._clinic_id).set(sum(self._counts.values()))

    def _recent_days(self) -> set[str]:
        today = self._now()
        return {f"{today - timedelta(days=days):%Y-%m-%d}" for days in (0, 1)}

    def _look_at(self, days: set[str] | None) -> None:
        counts: dict[str, int] = dict.fromkeys(days or (), 0)
        may_ask = True
        for file in failed_files(self._failed, self._clinic_id, days):
            self._beat()
            counts.setdefault(file.day, 0)
            if may_ask and file.written_since(self._tolerance_ns):
                try:
                    if self._is_to_return(file) and self._return(file):
                        continue
                except ArchiveUnavailableError:
                    may_ask = False
            counts[file.day] += not file.dismissed
        self._counts = counts if days is None else self._counts | counts
        if days is None:
            self._staying.clear()
            remove_orphan_reports(self._failed, self._clinic_id, self._now())

    def _is_to_return(self, file: FailedFile) -> bool:
        """Whether it would not replace what was stored since: its correction, perhaps."""
        if file in self._staying:
            return False
        if not self._was_stored(file):
            return True
        self._staying.add(file)
        _log.warning("a failed file was written to and stays: its image is stored", clinic=file.clinic_id)
        return False

    def _return(self, file: FailedFile) -> bool:
        try:
            put_back(self._failed, self._inbox, file)
        except (MoveError, OSError) as error:
            _log.warning("a failed file could not be returned", clinic=file.clinic_id, exc_info=error)
            return False
        _log.info("a failed file was written to and returns to the inbox", clinic=file.clinic_id)
        return True
