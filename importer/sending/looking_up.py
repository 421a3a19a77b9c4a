"""Whose a study is that the catalog does not know, before a clinic may reserve it.

The archive may have it all the same: stored around clinicpacs, or imported after the dump of the catalog that
was restored. Whoever reserved it would see all of its images, also those that were never theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.recorded import restored
from importer.work import Settlement
from pacs import logs
from pacs.catalog import audit, worklist
from pacs.catalog.ownership import Refusal
from pacs.written_owner import NotRestorableError, give_back, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from importer.work import Known, WaitingFile
    from pacs.archive import Archive, ArchivedStudy
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId, Uid

_log = logs.get(__name__)


@dataclass(frozen=True)
class LookUp:
    """Asks the archive, and gives a clinic back what is all its own. Safe to share among threads."""

    catalog: Catalog
    archive: Archive
    now: Callable[[], datetime]

    def refusal(self, file: WaitingFile) -> Settlement | None:
        """What becomes of the file if its clinic may not reserve its study; None if it may.

        Raises:
            ArchiveUnavailableError: the archive gave no answer, or none that can be understood.
            CatalogUnavailableError: the catalog cannot be used.
        """
        known = file.known
        study = self.archive.study(known.study_uid) if known and known.study_uid else None
        if known is None or study is None:
            return None
        try:
            self._give_back(study, file.clinic_id)
        except NotRestorableError as why:
            # Somebody may have reserved it meanwhile: that reservation is asked then.
            return None if self._is_known(study.study_uid) else _refusal(known, why)
        return None

    def _give_back(self, study: ArchivedStudy, clinic_id: ClinicId) -> None:
        if owner_of(self.archive, study) != clinic_id:
            raise NotRestorableError("its images name another clinic")
        with self.catalog.write() as connection:
            give_back(connection, study, clinic_id, self.now())
            audit.append(connection, restored(clinic_id, study.study_uid), self.now())
        _log.warning(
            "the catalog had lost a study: its clinic has it again",
            clinic=clinic_id,
            study_uid=study.study_uid,
        )

    def _is_known(self, study_uid: Uid) -> bool:
        with self.catalog.read() as connection:
            return worklist.standing(connection, study_uid) is not None


def _refusal(known: Known, why: NotRestorableError) -> Settlement:
    text = f"The archive has images of this study, the catalog has no owner for it, and {why}."
    return Settlement("failed", Refusal.STUDY_OWNERLESS.value, text, known)
