"""The importer's metrics; alerts and dashboards rely on the names."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from importer.dicom.refusal import Reason
from importer.sending import policy
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from pacs.catalog.verifications import Verification
    from pacs.ids import ClinicId

_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


_OF_THE_ARCHIVE = {*policy.REASONS.values(), policy.REFUSED, policy.SUPERSEDED}
FAILURE_REASONS = frozenset({*Reason, *Refusal, *_OF_THE_ARCHIVE} - {Reason.DICOMDIR})
"""Every `reason` that `importer_failures_total` may count."""


class ImporterMetrics:
    """One registry of its own, so that several importers can live in one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting_since: dict[ClinicId, float] = {}
        self.registry = CollectorRegistry()
        clinic = ["clinic"]
        self.files = self._counter("files", "Files that were dealt with.", ["clinic", "outcome"])
        self.failures = self._counter("failures", "Files that failed, by reason.", ["clinic", "reason"])
        self.warnings = self._counter(
            "warnings", "Files that the archive altered when storing them.", ["clinic", "reason"]
        )
        self.bytes = self._counter("bytes", "Bytes of the files that were stored.", clinic)
        self.waiting = self._gauge("waiting_files", "Files in the inbox that wait to be imported.", clinic)
        self.oldest = self._gauge("oldest_waiting_seconds", "How long the oldest has waited.", clinic)
        self.archive_up = self._gauge("archive_up", "1 while the archive answers, 0 while files wait for it.")
        self.catalog_up = self._gauge("catalog_up", "1 while the catalog answers, 0 while files wait for it.")
        self.inbox_up = self._gauge("inbox_up", "1 while the inbox can be read.")
        self.failed = self._gauge("failed_files", "Files now in failed that nobody dismissed.", clinic)
        self.stuck = self._gauge(
            "stuck_files", "Files that the archive keeps not storing while others succeed.", clinic
        )
        self.blocked = self._gauge("blocked_files", "Files that wait, by reason.", ["clinic", "reason"])
        self.seconds = Histogram(
            "importer_file_seconds",
            "From stable to stored.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.unknown_folders = self._gauge(
            "unknown_clinic_folders", "Folders in the inbox that belong to no clinic."
        )
        self.stray_files = self._gauge("stray_files", "Files directly in the inbox, in no clinic's folder.")
        self.special = self._gauge("special_files", "Symbolic links and the like, left alone.", clinic)
        self.under_way = self._gauge("uploading_files", "Files named as uploads in progress.", clinic)
        self.unreadable = self._gauge(
            "unreadable_folders", "Folders or files that cannot be looked at.", clinic
        )
        self.verified = self._gauge(
            "verified_timestamp_seconds", "When `clinicpacs verify` last ended.", clinic
        )
        self.unverified = self._gauge(
            "unverified_files", "Files that it found missing or different in the archive.", clinic
        )
        self.unfinished = self._gauge(
            "unfinished_changes_seconds",
            "Age of the oldest transfer or deletion of a study that is not finished; 0 without any.",
        )
        self.bugs = self._counter("internal_errors", "Errors of the importer itself; see the log.", [])

    def _counter(self, name: str, text: str, labels: Iterable[str]) -> Counter:
        return Counter(f"importer_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"importer_{name}", text, labels, registry=self.registry)

    def register(self, clinic_ids: Iterable[ClinicId]) -> None:
        """Start every series of these clinics at 0, so that the first failure is an increase."""
        for clinic_id in clinic_ids:
            for outcome in ("stored", "failed", "skipped"):
                self.files.labels(clinic_id, outcome)
            for reason in FAILURE_REASONS:
                self.failures.labels(clinic_id, reason)
            for reason in (*policy.WARNINGS.values(), policy.OTHER_WARNING):
                self.warnings.labels(clinic_id, reason)
            self.bytes.labels(clinic_id)
            for gauge in (self.waiting, self.failed, self.stuck, self.special, self.under_way):
                gauge.labels(clinic_id)
            self.oldest.labels(clinic_id).set_function(partial(self._longest_wait, clinic_id))

    def forget(self, clinic_id: ClinicId) -> None:
        """The clinic is not looked at any more; what it has in hand is taken back file by file."""
        self._waiting_since.pop(clinic_id, None)
        for gauge in (self.waiting, self.failed, self.special, self.under_way, self.unreadable):
            gauge.labels(clinic_id).set(0)

    def note_waiting(self, clinic_id: ClinicId, files: int, since: float | None) -> None:
        """So many files wait in the clinic's inbox, the oldest since this time of the clock."""
        self.waiting.labels(clinic_id).set(files)
        if since is None:
            self._waiting_since.pop(clinic_id, None)
        else:
            self._waiting_since[clinic_id] = since

    def _longest_wait(self, clinic_id: ClinicId) -> float:
        # When it is asked for: whoever would tell it may hang.
        now = self._clock()
        return max(0.0, now - self._waiting_since.get(clinic_id, now))

    def note_verifications(self, found: Iterable[Verification]) -> None:
        """Tell what the last verifications were; nothing of a clinic that was never verified."""
        for each in found:
            self.verified.labels(each.clinic_id).set(each.finished_at.timestamp())
            self.unverified.labels(each.clinic_id).set(each.faults)

    def note_unfinished(self, since: datetime | None, now: datetime) -> None:
        """Tell how old the oldest transfer or deletion is that is not finished."""
        self.unfinished.set(max(0.0, (now - since).total_seconds()) if since else 0)
