"""The files in processed, as they lie there: `processed/<clinic>/<YYYY-MM-DD>/<path in the inbox>`."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.files.scratch import SCRATCH
from importer.files.tree import Identity, folder
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBERED = re.compile(r".* \(([0-9]{1,9})\)(\.[^./]*)?", re.DOTALL)


@dataclass(frozen=True)
class Filed:
    """A file in processed.

    Attributes:
        clinic_id: whose.
        day: the day's folder.
        path: below the day's folder. May hold surrogate escapes and a patient's name: never for a log.
        identity: of the file.
        filed_ns: when it got there, by the file system's clock.
    """

    clinic_id: ClinicId
    day: str
    path: str
    identity: Identity
    filed_ns: int

    @property
    def order(self) -> tuple[str, int, int, str]:
        """Sorts files of one clinic by when they were filed; of a name taken the numbered one came later."""
        numbered = _NUMBERED.fullmatch(self.path)
        return self.day, self.filed_ns, int(numbered[1]) if numbered else 1, self.path


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
    with suppress(FileNotFoundError), folder(processed, (clinic_id,)) as descriptor:
        return sorted(name for name in _names(descriptor) if _DAY.fullmatch(name) and name >= since)
    return []


def filed_on(
    processed: Path, clinic_id: ClinicId, day: str, pass_over: Callable[[str], bool] = lambda _name: False
) -> Iterator[Filed]:
    """A clinic's files of one day, in no order; see `files_below`."""
    for path, status in files_below(processed, (clinic_id, day), pass_over):
        yield Filed(clinic_id, day, path, Identity.of(status), status.st_ctime_ns)


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
