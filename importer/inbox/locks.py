"""Who may touch which clinic's folder: one importer each, for as long as it lives.

With SQLite one importer serves an inbox: a file lock. With PostgreSQL several share out the clinics of a
network inbox: advisory locks, one a clinic, of a connection that does nothing else. The kernel and the
server release them when their holder dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text

from importer.inbox.look import InboxUnavailableError
from pacs import logs
from pacs.catalog import CatalogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from sqlalchemy import Connection

    from pacs.catalog import Catalog
    from pacs.ids import ClinicId

_log = logs.get(__name__)

LOCK_NAME = ".importer.lock"
_MEMBERS = 0x636C_696E  # an arbitrary number that only importers use


class InboxLockedError(Exception):
    """Another importer serves this inbox."""


class ClinicLocks(Protocol):
    """The clinics that are ours."""

    def hold(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        """Take what may be taken of these; the clinics that may be served now.

        A clinic that is to be given to another importer is not among them any more, and given up as soon
        as `is_idle` says that none of its files is in hand.

        Raises:
            InboxUnavailableError: the inbox is not the one that was locked.
            CatalogUnavailableError: all locks are lost.
        """

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

    def close(self) -> None:
        """See `ClinicLocks`."""
        os.close(self._descriptor)


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


class AdvisoryLocks:
    """A PostgreSQL advisory lock a clinic; importers that meet there take about equally many."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._session: Connection | None = None
        self._held: set[ClinicId] = set()

    def hold(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        """See `ClinicLocks`."""
        try:
            return self._share(clinic_ids, is_idle)
        except CatalogUnavailableError:
            self.close()
            raise

    def _share(self, clinic_ids: Collection[ClinicId], is_idle: Callable[[ClinicId], bool]) -> set[ClinicId]:
        # A clinic that is served no longer is given up like one that is another's.
        limit = self._fair_share(len(clinic_ids))
        ours = sorted(self._held & set(clinic_ids))
        staying = set(ours[:limit])
        for clinic_id in self._held - staying:
            if is_idle(clinic_id):
                self._ask("SELECT pg_advisory_unlock(:key)", key=_key(clinic_id))
                self._held.discard(clinic_id)
        for clinic_id in sorted(set(clinic_ids) - self._held):
            if len(staying) >= limit:
                break
            if self._ask("SELECT pg_try_advisory_lock(:key)", key=_key(clinic_id)):
                self._held.add(clinic_id)
                staying.add(clinic_id)
        return staying

    def _fair_share(self, clinics: int) -> int:
        members = self._ask(
            "SELECT count(DISTINCT pid) FROM pg_locks "
            "WHERE locktype = 'advisory' AND objsubid = 2 AND classid = :members "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            members=_MEMBERS,
        )
        return -(-clinics // max(1, int(members or 1)))

    def _ask(self, statement: str, **values: int) -> int | bool | None:
        with self._catalog.translated():
            if self._session is None:
                self._session = self._catalog.session()
                self._session.execute(
                    text("SELECT pg_advisory_lock_shared(:members, 0)"), {"members": _MEMBERS}
                )
            found: int | bool | None = self._session.scalar(text(statement), values)
            return found

    def close(self) -> None:
        """See `ClinicLocks`."""
        session, self._session = self._session, None
        self._held.clear()
        if session is not None:
            session.invalidate()
            session.close()


def _key(clinic_id: ClinicId) -> int:
    digest = hashlib.sha256(b"clinicpacs importer " + clinic_id.encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
