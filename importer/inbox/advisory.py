"""The clinics' locks of importers that meet in PostgreSQL: advisory ones, of a session with a lease.

All locks are of one connection that does nothing else, and that leads to the server itself: a pooler in
between would keep it, or hand it to others.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from threading import RLock
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from importer.inbox.look import InboxUnavailableError
from pacs import logs
from pacs.catalog import CatalogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Row

    from pacs.catalog import Catalog
    from pacs.ids import ClinicId

_log = logs.get(__name__)

LEASE_SECONDS = 12
"""PostgreSQL ends the session of an importer of which it has heard nothing for so long."""
_RENEW_SECONDS = 3.0
_PATIENCE_SECONDS = 1.0
_MEMBERS = 0x636C_696E  # an arbitrary number that only importers use


class AdvisoryLocks:
    """A PostgreSQL advisory lock a clinic; importers that meet there take about equally many.

    All are of one session. The server ends it when its connection closes, and when nothing was heard of it
    for `lease_seconds` (0: never): a machine that froze, or was cut off, keeps no clinic longer than that.
    Who sends or moves a file asks `is_ours` at that moment.
    """

    def __init__(self, catalog: Catalog, inbox: Path | None = None, *, lease_seconds: float = 0) -> None:
        self._catalog, self._inbox, self._lease_seconds = catalog, inbox, lease_seconds
        self._session: Connection | None = None
        self._held: set[ClinicId] = set()
        self._leaving: set[ClinicId] = set()
        self._heard_at = 0.0
        self._lost = False
        self._one_at_a_time = RLock()

    def hold(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        """See `importer.inbox.locks.ClinicLocks`."""
        if self._inbox and clinic_ids and not _has_any(self._inbox, clinic_ids):
            # A machine whose mount is gone must not keep the clinics from those that have theirs.
            self.close()
            raise InboxUnavailableError
        with self._one_at_a_time:
            if self._lost:
                self._lost = False
                raise CatalogUnavailableError("the session of the locks has ended")
            try:
                return self._share(set(clinic_ids), is_idle)
            except CatalogUnavailableError:
                self.close()
                raise

    def _share(self, clinic_ids: set[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        # Not before the next time after it was chosen: until then files of it may be taken in hand.
        for clinic_id in [each for each in self._leaving if is_idle(each)]:
            self._ask("SELECT pg_advisory_unlock(:key)", key=_key(clinic_id))
            self._held.discard(clinic_id)
        limit = self._fair_share(len(clinic_ids))
        ours = (self._held & clinic_ids) - self._leaving
        staying = _spread(sorted(ours, key=lambda each: (is_idle(each), each)), limit)
        for clinic_id in sorted(clinic_ids - staying, key=lambda each: (each not in self._leaving, each)):
            if len(staying) >= limit:
                break
            if clinic_id in self._held or self._ask("SELECT pg_try_advisory_lock(:key)", key=_key(clinic_id)):
                staying.add(clinic_id)
        self._held |= staying
        self._leaving = self._held - staying
        return staying

    def _fair_share(self, clinics: int) -> int:
        """How many of the clinics are ours; those of all importers add up to all of them."""
        counted = self._asked(
            "SELECT count(*) AS importers, count(*) FILTER (WHERE pid < pg_backend_pid()) AS before_us "
            "FROM pg_locks "
            "WHERE locktype = 'advisory' AND objsubid = 2 AND classid = :members AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            members=_MEMBERS,
        )
        importers: int = counted.importers
        before_us: int = counted.before_us
        return (clinics + importers - 1 - before_us) // importers

    def is_ours(self, clinic_id: ClinicId) -> bool:
        """See `importer.inbox.locks.ClinicLocks`."""
        # A question that hangs answers this one: files wait, and no uploader hangs with it.
        if not self._one_at_a_time.acquire(timeout=_PATIENCE_SECONDS):
            return False
        try:
            return clinic_id in self._held and self._is_alive()
        finally:
            self._one_at_a_time.release()

    def renew(self) -> None:
        """See `importer.inbox.locks.ClinicLocks`."""
        with self._one_at_a_time:
            self._is_alive()

    def _is_alive(self) -> bool:
        if self._session is None:
            return False
        try:
            with self._catalog.translated():
                if _now() - self._heard_at < _RENEW_SECONDS and not _has_news(self._session):
                    return True
            self._ask("SELECT 1")
        except CatalogUnavailableError:
            _log.warning("the clinics' locks are lost: their files wait")
            self.close()
            self._lost = True
            return False
        return True

    def _ask(self, statement: str, **values: int) -> Any:
        return self._asked(statement, **values)[0]

    def _asked(self, statement: str, **values: int) -> Row[Any]:
        began = _now()
        with self._catalog.translated():
            if self._session is None:
                self._session = self._begin()
            answer = self._session.execute(text(statement), values).one()
        self._heard_at = began
        return answer

    def _begin(self) -> Connection:
        """A session that is counted, with its lease."""
        session = self._catalog.session()
        try:
            session.exec_driver_sql(f"SET idle_session_timeout = '{self._lease_seconds * 1000:.0f}ms'")
            session.execute(text("SELECT pg_advisory_lock_shared(:members, 0)"), {"members": _MEMBERS})
        except BaseException:
            _end(session)
            raise
        return session

    def close(self) -> None:
        """See `importer.inbox.locks.ClinicLocks`."""
        # What hangs in a question ends with the process.
        if not self._one_at_a_time.acquire(timeout=_PATIENCE_SECONDS):
            return
        try:
            session, self._session, self._lost = self._session, None, False
            self._held, self._leaving = set(), set()
            if session is not None:
                _end(session)
        finally:
            self._one_at_a_time.release()


def _now() -> float:
    # Goes on while the machine sleeps, as the server's clock does.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _end(session: Connection) -> None:
    session.invalidate()
    session.close()


def _has_news(session: Connection) -> bool:
    """Whether the server said something unasked: as a rule that the session, and with it all locks, ended."""
    driver: Any = session.connection.dbapi_connection
    news = select.poll()
    news.register(driver, select.POLLIN)
    return bool(news.poll(0))


def _has_any(inbox: Path, clinic_ids: Collection[ClinicId]) -> bool:
    # Of an error on the way this makes a no.
    return any(os.path.isdir(inbox / clinic_id) for clinic_id in clinic_ids)  # noqa: PTH112


def _spread(ordered: Sequence[ClinicId], limit: int) -> set[ClinicId]:
    """So many of them, at equal distances: of the busy clinics, which come first, and of the idle ones."""
    count = min(limit, len(ordered))
    return {ordered[number * len(ordered) // count] for number in range(count)}


def _key(clinic_id: ClinicId) -> int:
    digest = hashlib.sha256(b"clinicpacs importer " + clinic_id.encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
