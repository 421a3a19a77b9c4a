"""The bytes of one instance on their way to the archive, as pieces in memory and ranges of an open file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes ``[offset, offset + length)`` of a file that its owner keeps open until they are sent.

    Read it with ``os.pread`` or ``os.sendfile``: the file's own position belongs to nobody.
    """

    fd: int
    offset: int
    length: int


Segment = bytes | FileRange
