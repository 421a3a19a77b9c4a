"""Temporary files: written apart, renamed when they are whole, and removed when their writer died."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from importer.files.tree import folder, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.ids import ClinicId

SCRATCH = ".clinicpacs-scratch"
"""Folder below a clinic's folder, in each tree, for what is being written."""

_STALE_SECONDS = 86400
# What we made ourselves: whatever else lies in a folder of that name is a clinic's.
_TEMPORARY = re.compile(r"[0-9a-f]{32}\.partial")


@contextmanager
def temporary_file(root: Path, clinic_id: ClinicId) -> Iterator[tuple[BinaryIO, int, str]]:
    """A new file to be written and renamed: the file, its open folder and its name there.

    It is locked as long as it is open: whoever finds it unlocked knows that its maker died. What was not
    renamed is removed in the end.

    Raises:
        OSError: it cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with make_folder(root, (clinic_id, SCRATCH)) as scratch_fd:
        name = f"{uuid.uuid4().hex}.partial"
        with os.fdopen(os.open(name, flags, 0o666, dir_fd=scratch_fd), "wb") as file:
            try:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file, scratch_fd, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=scratch_fd)


def sweep_scratch(root: Path, clinic_id: ClinicId, now: float) -> None:
    """Remove what processes left that died; `now` in seconds since the epoch."""
    with suppress(OSError), folder(root, (clinic_id, SCRATCH)) as descriptor:
        with os.scandir(descriptor) as entries:
            found = [each for each in entries if _TEMPORARY.fullmatch(each.name)]
        for each in found:
            with suppress(FileNotFoundError):
                if _is_abandoned(descriptor, each.name, now):
                    os.unlink(each.name, dir_fd=descriptor)


def _is_abandoned(folder_fd: int, name: str, now: float) -> bool:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder_fd)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Where there are no locks only time tells.
        return now - os.fstat(descriptor).st_mtime > _STALE_SECONDS
    else:
        return True
    finally:
        os.close(descriptor)
