"""Files given their places in the order in which the importer takes them up: time of change, then path."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from importer.files.tree import LEAVING, UNSUPPORTED, exists, rename_noreplace

if TYPE_CHECKING:
    from pathlib import Path

_NEXT_TICK_SECONDS = 5.0


class FilingOrder:
    """Sees to it that each file comes after all before it, as the importer sorts them: by time, then path.

    `last` is the time of change and the path of the last one so far.
    """

    def __init__(self, last: tuple[int, str]) -> None:
        self._last = last

    @property
    def used(self) -> bool:
        """Whether there is a file that others can come behind."""
        return self._last[0] > 0

    def put_last(self, folder_fd: int, name: str, path: str, *, touch: bool = False) -> None:
        """Make this file the last one.

        Where the file system does not keep times of change, the order of the paths has to do.

        Raises:
            OSError: it cannot be renamed.
        """
        deadline = time.monotonic() + _NEXT_TICK_SECONDS
        if touch:
            _renew(folder_fd, name)
        while (now := (_changed_ns(folder_fd, name), path)) <= self._last and time.monotonic() < deadline:
            time.sleep(0.001)
            _renew(folder_fd, name)
        self._last = max(self._last, now)


def _changed_ns(folder_fd: int, name: str) -> int:
    return os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_ctime_ns


def _renew(folder_fd: int, name: str) -> None:
    """Give a file a new time of change, and nothing else: a second name comes and goes.

    The kernel may refuse that for a file of another user (fs.protected_hardlinks), and some file systems have
    no second names. Then the file is renamed there and back. After a crash in between the importer takes the
    second name for a file like any other.
    """
    other = f"{LEAVING}{uuid.uuid4().hex}"
    try:
        os.link(name, other, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        os.rename(name, other, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        with suppress(FileExistsError):  # its clinic has put another one there
            _rename_back(folder_fd, other, name)
    else:
        os.unlink(other, dir_fd=folder_fd)


def _rename_back(folder_fd: int, other: str, name: str) -> None:
    try:
        rename_noreplace(folder_fd, other, folder_fd, name)
    except OSError as error:
        if error.errno not in UNSUPPORTED or exists(folder_fd, name):
            raise
        os.rename(other, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def file_system_time(place: Path) -> int:
    """The clock of the file system that a folder is on, which may be another machine's, in nanoseconds.

    Raises:
        OSError: no file can be made there.
    """
    probe = place / f".clinicpacs-clock-{os.getpid()}"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(descriptor).st_ctime_ns
    finally:
        os.close(descriptor)
        probe.unlink()


def as_time(nanoseconds: int) -> datetime:
    """A time of the file system, to the microsecond and not later."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC) + timedelta(
        microseconds=nanoseconds % 1_000_000_000 // 1000
    )
