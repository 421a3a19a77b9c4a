"""Where files lie and where they end: inbox, processed, failed; and whether there is room for them."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

from importer.files.kept import KeptFolders
from importer.files.moving import GoneError, Spot, StrangerError, Target, move
from importer.files.names import ERROR_JSON, candidates, failed_candidates, in_inbox
from importer.files.report import Report, read_report, write_report
from importer.files.scratch import sweep_scratch
from importer.files.tree import (
    NotARegularFileError,
    exists,
    folder,
    is_mounted,
    make_folder,
    make_folder_beside,
    open_file,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from importer.files.tree import Identity
    from importer.work import Settlement, WaitingFile
    from pacs.catalog.imports import Outcome
    from pacs.ids import ClinicId

_RESERVE_BYTES = 16 << 20
_RESERVE_FILES = 32
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class UnmountedError(OSError):
    """Where a tree was mounted there is only the mount point."""


def free_bytes(folder_fd: int) -> int | None:
    """Room in the file system of an open folder; None when it does not say (some network ones).

    Bytes are no room where no further file can be made.
    """
    status = os.fstatvfs(folder_fd)
    # Some file systems do not count files.
    if status.f_files and status.f_favail < _RESERVE_FILES:
        return 0
    return status.f_bavail * status.f_frsize if status.f_blocks else None


class Filer:
    """The three trees. `now` tells the local time in TZ; `free` is `free_bytes`, or a test's."""

    def __init__(
        self,
        inbox: Path,
        processed: Path,
        failed: Path,
        *,
        now: Callable[[], datetime],
        free: Callable[[int], int | None] = free_bytes,
    ) -> None:
        self.inbox, self.processed, self.failed = inbox, processed, failed
        self._now = now
        self._free = free
        # Two failed files that want one name would write and withdraw each other's report.
        self._failing = Lock()
        self._making = Lock()
        self._folders = KeptFolders()
        self._mounts: set[Path] = set()

    def keeping_folders(self) -> AbstractContextManager[None]:
        """For a batch: this thread opens what its files have in common once."""
        return self._folders.keeping()

    def open(self, file: WaitingFile) -> int:
        """Open a file in the inbox for reading.

        Raises:
            GoneError: it is no longer there, or no longer a file.
            StrangerError: it is not the one that was found stable.
            OSError: it cannot be read now.
        """
        with self._source(file) as (source_fd, name):
            try:
                descriptor, identity = open_file(source_fd, name)
            except (FileNotFoundError, NotARegularFileError):
                raise GoneError from None
        if identity != file.identity:
            os.close(descriptor)
            raise StrangerError
        return descriptor

    def lets_go(self, file: WaitingFile) -> bool:
        """Whether the file could be moved out of its folder: storing it would be followed by no move.

        Raises:
            GoneError: its folder is no longer there.
        """
        with self._source(file) as (source_fd, _):
            return os.access(".", os.W_OK | os.X_OK, dir_fd=source_fd)

    def copies(self, file: WaitingFile, outcome: Outcome) -> bool:
        """Whether it would be copied to where it belongs, and leave one behind who still writes it."""
        with suppress(OSError):
            return (
                self.failed if outcome == "failed" else self.processed
            ).stat().st_dev != file.identity.device
        return False

    def file(self, file: WaitingFile, settlement: Settlement) -> str:
        """Move a file to where its outcome belongs; returns its path below the clinic's folder there.

        Raises:
            GoneError: it is no longer there.
            StrangerError: it was replaced or written to; what has its name now is in the inbox.
            OSError: it cannot be moved now; it is in the inbox.
        """
        *above, _ = split(file.path)
        with self._source(file) as (source_fd, name):
            source = Spot(source_fd, name, file.identity)
            if settlement.outcome == "failed":
                with self._failing:
                    return self._file_failed(file.clinic_id, above, source, settlement)
            return self._file_processed(file.clinic_id, above, source)

    @contextmanager
    def _source(self, file: WaitingFile) -> Iterator[tuple[int, str]]:
        *above, name = split(file.path)
        parts = (file.clinic_id, *above)
        with ExitStack() as stack:
            try:
                source_fd = stack.enter_context(
                    self._folders.use(self.inbox, parts, lambda: folder(self.inbox, parts))
                )
            except (FileNotFoundError, NotADirectoryError):
                raise GoneError from None
            except OSError as error:
                if error.errno == errno.ELOOP:  # the folder was swapped for a symbolic link
                    raise GoneError from None
                raise
            yield source_fd, name

    def _file_processed(self, clinic_id: ClinicId, above: list[str], source: Spot) -> str:
        day = clinic_id, f"{self._now():%Y-%m-%d}"
        with self._folders.use(
            self.processed, (*day, *above), lambda: self._target_folder(self.processed, day, above)
        ) as (target_fd, beside):
            name = in_inbox(source.name)
            placed = move(source, Target(target_fd, lambda: candidates(name), self.processed, clinic_id))
        return "/".join((day[1], *beside, placed))

    def _file_failed(
        self, clinic_id: ClinicId, above: list[str], source: Spot, settlement: Settlement
    ) -> str:
        now = self._now()
        known = settlement.known

        def announce(name: str, identity: Identity) -> bool:
            if exists(target_fd, name) or _is_foreign(target_fd, name):
                return False
            report = Report(
                settlement.reason, settlement.text, now, identity.size, identity.mtime_ns, **vars(known)
            )
            write_report(self.failed, clinic_id, target_fd, name, report)
            return True

        def withdraw(name: str) -> None:
            with suppress(FileNotFoundError):
                if not exists(target_fd, name):
                    os.unlink(name + ERROR_JSON, dir_fd=target_fd)

        day = clinic_id, f"{now:%Y-%m-%d}"
        with self._target_folder(self.failed, day, above) as (target_fd, beside):
            name = in_inbox(source.name)
            names = lambda: failed_candidates(name)  # noqa: E731 - begun anew by each way of moving
            placed = move(source, Target(target_fd, names, self.failed, clinic_id, announce, withdraw))
        return "/".join((day[1], *beside, placed))

    def obstacle(self, clinic_id: ClinicId, size: int) -> str:
        """Why `size` more bytes of this clinic could not be filed now; empty when they could."""
        try:
            with folder(self.inbox, (clinic_id,)) as inbox_fd:
                device = os.fstat(inbox_fd).st_dev
            return self._lack(self.processed, clinic_id, size, device) or self._lack(
                self.failed, clinic_id, size, device
            )
        except UnmountedError:
            return "target-gone"
        except OSError as error:
            return "no-space" if error.errno in NO_SPACE else "target-not-writable"

    def _lack(self, root: Path, clinic_id: ClinicId, size: int, inbox_device: int) -> str:
        self.check_mount(root)
        with self._making, make_folder(root, (clinic_id,)) as target_fd:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=target_fd):
                return "target-not-writable"
            needed = _RESERVE_BYTES + (size if os.fstat(target_fd).st_dev != inbox_device else 0)
            free = self._free(target_fd)
            return "no-space" if free is not None and free < needed else ""

    def check_mount(self, place: Path) -> None:
        """Know a folder that is a mount, and know it again.

        Raises:
            UnmountedError: it is none any more: what is put there would be out of sight when it is back.
        """
        if is_mounted(place):
            self._mounts.add(place)
        elif place in self._mounts:
            raise UnmountedError(errno.ENODEV, os.strerror(errno.ENODEV))

    @contextmanager
    def _target_folder(
        self, root: Path, day: tuple[str, str], above: list[str]
    ) -> Iterator[tuple[int, list[str]]]:
        """The open folder to file into, and its path below the clinic's folder of that day."""
        self.check_mount(root)
        with ExitStack() as stack:
            # What one thread makes must be on the disk before another one files into it.
            with self._making:
                # A file of that name may have been filed there before, on the same day.
                found = stack.enter_context(make_folder_beside(root, day, above, candidates))
            yield found

    def sweep(self, clinic_id: ClinicId) -> None:
        """Remove temporary files that a process left when it died."""
        for root in (self.inbox, self.processed, self.failed):
            sweep_scratch(root, clinic_id, self._now().timestamp())


def _is_foreign(folder_fd: int, name: str) -> bool:
    """Whether something that is no report of ours has the name of this file's report."""
    return exists(folder_fd, name + ERROR_JSON) and read_report(folder_fd, name) is None
