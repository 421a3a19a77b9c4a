"""One file copied, whole or not at all, and encrypted or decrypted on the way."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 1 << 30

Coding = Callable[[BinaryIO, BinaryIO], object]
"""Reads all of one file and writes another."""


class NoRoomError(OSError):
    """The disk has not enough room for what is to be copied."""


class Copy(NamedTuple):
    """A file in the backup.

    Attributes:
        size: of the archive's file, and
        sha256: its digest.
        stored: digest of what the backup holds of it: another one where it is encrypted.
    """

    size: int
    sha256: str
    stored: str


def require_room(folder: Path, needed: int) -> None:
    """Raise NoRoomError unless the disk of `folder` has so many bytes and a gigabyte to spare."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed + RESERVE_BYTES:
        told = f"{needed / 1e9:.1f} GB are to be copied, and {free / 1e9:.1f} GB are free"
        raise NoRoomError(errno.ENOSPC, told, str(folder))


class _Digested:
    """A file whose bytes are counted and digested on their way in or out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, size: int = -1) -> bytes:
        return self._seen(self._file.read(size))

    def write(self, chunk: bytes) -> int:
        return self._file.write(self._seen(bytes(chunk)))

    def flush(self) -> None:
        self._file.flush()

    def _seen(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        self.size += len(chunk)
        return chunk


def copy_file(source: Path, target: Path, coding: Coding = shutil.copyfileobj) -> Copy:
    """Copy a file with its time of modification, whole or not at all; its size and digest.

    `coding` may encrypt or decrypt it on the way.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be copied.
        admin.backup.crypt.EncryptionError: it cannot be decrypted.
    """
    temporary = target.with_name(f".{target.name}.copying")
    with source.open("rb") as reading:
        status = os.fstat(reading.fileno())
        read = _Digested(reading)
        try:
            # Left by a run that was killed; its mode keeps it from being written to.
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as writing:
                os.fchmod(writing.fileno(), 0o400)
                written = _Digested(writing)
                coding(cast("BinaryIO", read), cast("BinaryIO", written))
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return Copy(read.size, read.sha256, written.sha256)
