"""Which files in processed the archive lacks because `clinicpacs delete` removed their study.

A study that was deleted and sent again is a study like any other: only the audit trail tells that what was
filed before the deletion is gone for a reason. What comes again is stored after the archive has removed all
of the study, so a file of that time is never taken for an older one.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from sqlalchemy import select

from pacs.catalog import audit as trail
from pacs.catalog.schema import audit, studies

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from admin.processed import Place
    from pacs.catalog import Catalog
    from pacs.ids import Uid


class Deletions:
    """The deletions on record, as of now. Safe to share among threads.

    Raises:
        pacs.catalog.CatalogUnavailableError: it cannot be read; by each method.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._at: dict[str, datetime] = {}
        self._read_to = 0
        self._lock = Lock()
        with catalog.read() as connection:
            self._tombstones = frozenset(
                connection.scalars(select(studies.c.study_uid).where(studies.c.state == "deleted"))
            )

    def has_tombstone(self, study_uid: Uid) -> bool:
        """Whether the study was deleted when this was made, and is still; asks for few."""
        if study_uid not in self._tombstones:
            return False
        with self._catalog.read() as connection:
            study = _study(connection, study_uid)
        return study is not None and study.state == "deleted"

    def explain(self, study_uid: Uid, place: Place) -> bool:
        """Whether this file's study is deleted, or was after the file had been filed."""
        with self._catalog.read() as connection:
            study = _study(connection, study_uid)
            if study is None or study.state == "deleted":
                return study is not None
            at = self._last_of(connection, study_uid)
        # Where the deleter's clock is fast, what was sent again is younger than its new reservation.
        return at is not None and place.was_filed_before(min(at, study.reserved_at))

    def _last_of(self, connection: Connection, study_uid: Uid) -> datetime | None:
        # The trail has no index for this question: each row is read once, however many files are missing.
        head = trail.head(connection).id
        with self._lock:
            news = select(audit.c.study_uid, audit.c.at).where(
                audit.c.action == "delete", audit.c.id > self._read_to, audit.c.id <= head
            )
            self._at.update({row.study_uid: row.at for row in connection.execute(news.order_by(audit.c.id))})
            self._read_to = max(self._read_to, head)
            return self._at.get(study_uid)


def _study(connection: Connection, study_uid: Uid) -> Row[str, datetime] | None:
    columns = select(studies.c.state, studies.c.reserved_at)
    return connection.execute(columns.where(studies.c.study_uid == study_uid)).first()
