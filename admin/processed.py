"""The files in processed, as they lie there: `processed/<clinic>/<YYYY-MM-DD>/<path in the inbox>`."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, NamedTuple

from importer.files.failed import day_folders
from importer.files.scratch import SCRATCH
from importer.files.tree import folder, split
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

_NUMBERED = re.compile(r".* \(([0-9]{1,9})\)(\.[^./]*)?", re.DOTALL)


class Place(NamedTuple):
    """A file in a clinic's folder of processed, or of the inbox (without a day).

    Attributes:
        clinic_id: whose.
        day: the day's folder; empty in the inbox.
        path: below. May hold surrogate escapes and a patient's name: never for a log.
        filed_ns: when it got there, by the file system's clock.
    """

    clinic_id: ClinicId
    day: str
    path: str
    filed_ns: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the name below the tree's root."""
        return (self.clinic_id, *((self.day,) if self.day else ()), *split(self.path))

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """Sorts files by when they were filed; in one tick of the clock numbered names come later.

        Nothing else tells which of several files of one instance is the newest.
        """
        numbered = _NUMBERED.fullmatch(self.path)
        return self.day, self.filed_ns, int(numbered[1]) if numbered else 1, self.path, self.clinic_id

    def was_filed_before(self, moment: datetime) -> bool:
        """Whether it was in processed at a moment; no, where nobody can tell.

        A file's time may be younger than its filing: a copy of the whole folder, or another link, renews it.
        Its day stays, and is over everywhere on Earth two days later.
        """
        if self.filed_ns < moment.timestamp() * 1_000_000_000:
            return True
        day_before = (moment.astimezone(UTC) - timedelta(days=1)).date().isoformat()
        return "" < self.day < day_before

    def __str__(self) -> str:
        return "/".join(self.parts)


def clinic_folders(processed: Path) -> list[ClinicId]:
    """Whose folders are in processed; there may be clinics that the catalog does not have."""
    found = []
    with suppress(FileNotFoundError), os.scandir(processed) as entries:
        for entry in entries:
            with suppress(InvalidClinicIdError):
                if entry.is_dir(follow_symlinks=False):
                    found.append(ClinicId(entry.name))
    return sorted(found)


def days(processed: Path, clinic_id: ClinicId, since: str = "") -> list[str]:
    """The days' folders of a clinic, from the day `since` on.

    Raises:
        OSError: they cannot be read; a clinic without a folder has none.
    """
    return [day for day in day_folders(processed, clinic_id) if day >= since]


def places(
    root: Path, clinic_id: ClinicId, day: str, pass_over: Callable[[str], bool] = lambda _name: False
) -> Iterator[Place]:
    """The files of a clinic's folder in a tree, or of a day's in it, in no order; see `files_below`."""
    for path, status in files_below(root, (clinic_id, day) if day else (clinic_id,), pass_over):
        yield Place(clinic_id, day, path, status.st_ctime_ns)


def files_below(
    root: Path, base: tuple[str, ...], pass_over: Callable[[str], bool] = lambda _name: False
) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below a folder by their paths in it; links are not followed.

    `pass_over` says of a file's or folder's name whether to leave it out.

    Raises:
        OSError: a folder cannot be read; one that went meanwhile is none.
    """
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError), folder(root, (*base, *parts)) as descriptor:
            for name in _names(descriptor):
                if name == SCRATCH or pass_over(name):
                    continue
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append((*parts, name))
                    elif stat.S_ISREG(status.st_mode):
                        yield "/".join((*parts, name)), status


def _names(folder_fd: int) -> list[str]:
    with os.scandir(folder_fd) as entries:
        return [entry.name for entry in entries]
