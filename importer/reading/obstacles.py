"""What keeps all files of a clinic waiting, and how that is told: once when it begins, once when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs import logs

if TYPE_CHECKING:
    from importer.files.filing import Filer
    from importer.metrics import ImporterMetrics
    from importer.reading.schedule import Turn
    from pacs.ids import ClinicId

_log = logs.get(__name__)

OBSTACLE_SECONDS = 3.0
"""How long a clinic that met one is left alone."""


class Obstacles:
    """The clinics whose files could not be filed now, each with the reason."""

    def __init__(self, filer: Filer, metrics: ImporterMetrics) -> None:
        self._filer = filer
        self._metrics = metrics
        self._known: dict[ClinicId, str] = {}
        self._blocked: dict[ClinicId, int] = {}

    def found(self, turn: Turn, bytes_under_way: int, in_line: int) -> bool:
        """Whether something is in the way of these files, which are then put back into the line."""
        clinic_id = turn.clinic_id
        size = bytes_under_way + sum(file.identity.size for file in turn.files)
        reason = self._filer.obstacle(clinic_id, size)
        known = self._known.get(clinic_id, "")
        self._tell(clinic_id, reason, in_line + len(turn.files) if reason else 0)
        if reason != known:
            if reason:
                _log.warning("files of a clinic wait", clinic=clinic_id, reason=reason)
            else:
                _log.info("files of a clinic wait no longer", clinic=clinic_id, reason=known)
        return bool(reason)

    def forget(self, clinic_id: ClinicId) -> None:
        """The clinic is served no longer."""
        self._tell(clinic_id, "", 0)

    def _tell(self, clinic_id: ClinicId, reason: str, files: int) -> None:
        # Added, not set: single files may wait for the same reason.
        known = self._known.pop(clinic_id, "")
        if known:
            self._metrics.blocked.labels(clinic_id, known).dec(self._blocked[clinic_id])
        if reason:
            self._metrics.blocked.labels(clinic_id, reason).inc(files)
            self._known[clinic_id], self._blocked[clinic_id] = reason, files
