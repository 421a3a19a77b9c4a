"""How many files are in hand, and what became of the others: for metrics, the log and the ledger."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pacs import logs

if TYPE_CHECKING:
    from importer.ledger import Ledger
    from importer.metrics import ImporterMetrics
    from importer.work import Settlement, WaitingFile
    from pacs.ids import ClinicId

_log = logs.get(__name__)


class Totals:
    """Since the start.

    Attributes:
        in_hand: files that are not finished, by clinic.
        outcomes: files that are, by outcome.
    """

    def __init__(self, metrics: ImporterMetrics, ledger: Ledger) -> None:
        self._metrics, self._ledger = metrics, ledger
        self.in_hand: Counter[ClinicId] = Counter()
        self.outcomes: Counter[str] = Counter()

    def count(self, file: WaitingFile, settled: Settlement) -> None:
        """A file was filed."""
        self.outcomes[settled.outcome] += 1
        self._metrics.files.labels(file.clinic_id, settled.outcome).inc()
        if settled.outcome == "stored":
            self._metrics.bytes.labels(file.clinic_id).inc(file.identity.size)
        if settled.outcome == "failed":
            self._metrics.failures.labels(file.clinic_id, settled.reason).inc()
            _log.warning(
                "a file failed",
                clinic=file.clinic_id,
                reason=settled.reason,
                study_uid=settled.known.study_uid,
                sop_instance_uid=settled.known.sop_instance_uid,
            )
        self._ledger.note(file, settled)
