"""Who may touch which clinic's folder: one importer each, for as long as it lives.

With SQLite one importer serves an inbox: a file lock. With PostgreSQL several share out the clinics of a
network inbox: advisory locks, one a clinic, of a connection that does nothing else, and that leads to the
server itself: a pooler in between would keep it, or hand it to others. The kernel and the server release
them when their holder dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import time
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

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

LOCK_NAME = ".importer.lock"
LEASE_SECONDS = 12
"""PostgreSQL ends the session of an importer of which it has heard nothing for so long."""
_RENEW_SECONDS = 3.0
_MEMBERS = 0x636C_696E  # an arbitrary number that only importers use


class InboxLockedError(Exception):
    """Another importer serves this inbox."""


class ClinicLocks(Protocol):
    """The clinics that are ours."""

    def hold(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        """Take what may be taken of these; the clinics that may be served now.

        A clinic that is to be given to another importer is not among them any more, and given up at a later
        call, as soon as `is_idle` says that none of its files is in hand.

        Raises:
            InboxUnavailableError: the inbox is not the one that was locked.
            CatalogUnavailableError: all locks are lost.
        """

    def is_ours(self, clinic_id: ClinicId) -> bool:
        """Whether a file of this clinic may be sent, or moved, now. Safe to call from any thread."""

    def renew(self) -> None:
        """To be called every second or so: locks may be lost by an importer that is not heard of."""

    def close(self) -> None:
        """Give up all."""


class InboxLock:
    """A lock on a file in the inbox, for the only importer.

    Raises:
        InboxLockedError: there is another one.
        OSError: the file cannot be made.
    """

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self._path = inbox / LOCK_NAME
        self._descriptor = self._take()
        self._served = _place(inbox)

    def _adopt(self) -> None:
        """The inbox was mounted anew, perhaps as another device; our lock file in it says that it is ours."""
        place = _place(self._inbox)
        try:
            descriptor = self._take(create=False)
        except InboxLockedError:
            raise InboxUnavailableError from None
        os.close(self._descriptor)
        self._descriptor, self._served = descriptor, place

    def _take(self, *, create: bool = True) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise InboxLockedError("another importer serves this inbox already") from None
            raise
        return descriptor

    def hold(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        """See `ClinicLocks`."""
        del is_idle
        try:
            # A mount point without its mount must not pass for an inbox without files.
            if _place(self._inbox) != self._served:
                self._adopt()
            self._retake_if_removed()
        except OSError as error:
            raise InboxUnavailableError from error
        return set(clinic_ids)

    def _retake_if_removed(self) -> None:
        held = os.fstat(self._descriptor)
        with suppress(FileNotFoundError):
            there = self._path.stat(follow_symlinks=False)
            if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
                return
        try:
            descriptor = self._take()
        except InboxLockedError:
            raise InboxUnavailableError from None
        os.close(self._descriptor)
        self._descriptor = descriptor

    def is_ours(self, clinic_id: ClinicId) -> bool:
        """See `ClinicLocks`: the kernel takes away no lock of a living process."""
        del clinic_id
        return True

    def renew(self) -> None:
        """See `ClinicLocks`."""

    def close(self) -> None:
        """See `ClinicLocks`."""
        os.close(self._descriptor)


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


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
        """See `ClinicLocks`."""
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
        """See `ClinicLocks`."""
        with self._one_at_a_time:
            return clinic_id in self._held and self._is_alive()

    def renew(self) -> None:
        """See `ClinicLocks`."""
        with self._one_at_a_time:
            self._is_alive()

    def _is_alive(self) -> bool:
        if self._session is None:
            return False
        if time.monotonic() - self._heard_at < _RENEW_SECONDS and not _has_news(self._session):
            return True
        try:
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
        began = time.monotonic()
        with self._catalog.translated():
            if self._session is None:
                self._session = self._catalog.session()
                lease = f"{self._lease_seconds * 1000:.0f}ms"
                self._session.exec_driver_sql(f"SET idle_session_timeout = '{lease}'")
                self._session.execute(
                    text("SELECT pg_advisory_lock_shared(:members, 0)"), {"members": _MEMBERS}
                )
            answer = self._session.execute(text(statement), values).one()
        self._heard_at = began
        return answer

    def close(self) -> None:
        """See `ClinicLocks`."""
        with self._one_at_a_time:
            session, self._session, self._lost = self._session, None, False
            self._held, self._leaving = set(), set()
            if session is not None:
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
