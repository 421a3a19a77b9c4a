"""Who may touch which clinic's folder: one importer each, for as long as it lives.

With SQLite one importer serves an inbox: a file lock. With PostgreSQL several share out the clinics of a
network inbox: advisory locks, one a clinic (`importer.inbox.advisory`). The kernel and the server release
them when their holder dies.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from importer.inbox.look import InboxUnavailableError
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pacs.ids import ClinicId

_log = logs.get(__name__)

LOCK_NAME = ".importer.lock"


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
        """To be called every second or so, or the locks may be lost. Hangs with the catalog."""

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
        self._descriptor = self._take(create=True)
        self._served = _place(inbox)

    def _adopt(self) -> None:
        """The inbox was mounted anew, perhaps as another device; our lock file in it says that it is ours."""
        place = _place(self._inbox)
        self._swap(create=False)
        self._served = place

    def _swap(self, *, create: bool) -> None:
        try:
            descriptor = self._take(create=create)
        except InboxLockedError:
            raise InboxUnavailableError from None
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _take(self, *, create: bool) -> int:
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
        self._swap(create=True)

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
