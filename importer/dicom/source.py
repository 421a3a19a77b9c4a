"""The bytes that are walked: read forward from a file descriptor, a window at a time, within limits."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from importer.dicom.refusal import Reason, RefusedFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

# One round trip brings the header of nearly every instance, also from a network share.
_AHEAD = 1 << 14
# After a jump over pixel data only a few bytes are of interest.
_AFTER_JUMP = 1 << 9
# Over the tiles of a slide there are a hundred thousand jumps, and each would be a round trip on a share.
_SHORT_JUMP = 1 << 17
_AHEAD_OF_JUMPS = 1 << 18
_BYTES_FOR_EACH = 64
_BYTES_A_SECOND = 10_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds that a hostile file meets and a real one does not, so that it cannot hold up the others.

    Attributes:
        depth: of nested sequences. Structured reports, the deepest real ones, nest about 20 deep.
        elements: headers of elements, items and fragments, and one more for each 64 bytes of the file. A CT
            of 5,000 frames has some 200,000; a sparse slide of 100,000 tiles, each with its place, 2.2
            million in 250 MB. A million take 1 to 5 s (measured).
        seconds: of the processor, for whatever takes longer than its size tells, and one more for each 10 MB.
            A deflated file of 500 MB that holds but the tables of empty blocks would take 60 s (measured).
        inflated_bytes: of a deflated data set. The one thread that reads for all clinics inflates it twice.
        inflated_ratio: bytes for each deflated byte, applied above 64 MB.
    """

    depth: int = 64
    elements: int = 1_000_000
    seconds: float = 60.0
    inflated_bytes: int = 512 << 20
    inflated_ratio: int = 200

    def of_file(self, size: int) -> Limits:
        """Those of a file of `size` bytes."""
        return replace(
            self,
            elements=self.elements + size // _BYTES_FOR_EACH,
            seconds=self.seconds + size / _BYTES_A_SECOND,
        )


class Deadline:
    """`check` it now and then: one file must not keep the only thread that reads from all the others.

    Of the processor, because a slow share or a busy machine says nothing about the file.
    """

    def __init__(self, limits: Limits) -> None:
        self._end = time.thread_time() + limits.seconds

    def check(self) -> None:
        """Go on.

        Raises:
            RefusedFileError: the time is over (``takes-too-long``).
        """
        if time.thread_time() >= self._end:
            raise RefusedFileError(Reason.TAKES_TOO_LONG, "The file takes too long to read.")


class Source(Protocol):
    """Bytes of a known size that are read in ascending order."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`: `length` of them, fewer only where the source ends.

        `offset` is never lower than that of an earlier call.

        Raises:
            RefusedFileError: the bytes cannot be had (``truncated``, ``malformed-deflate``), or not in time.
        """


class Window:
    """Chunks that come one after the other, read forward; little more than one of them is held."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._base = 0
        self._held = b""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`, which never goes back: `length` of them, fewer where the chunks end."""
        while offset + length > self._base + len(self._held):
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            dropped = min(offset - self._base, len(self._held))
            self._held = self._held[dropped:] + chunk
            self._base += dropped
        start = offset - self._base
        return self._held[start : start + length]


class FileSource:
    """A `Source` on an open file, by ``os.pread``: the descriptor's own position stays where it is.

    Attributes:
        size: of the file.
        head: its first bytes, once they were read.
    """

    def __init__(self, fd: int, limits: Limits | None = None) -> None:
        self._fd = fd
        self._deadline = Deadline(limits or Limits())
        self._base = 0
        self._window = self.head = b""
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """See `Source.read`.

        Raises:
            OSError: the file system failed: this says nothing about the file.
        """
        start = offset - self._base
        if start < 0 or start + length > len(self._window):
            self._refill(offset, length)
            start = 0
        return self._window[start : start + length]

    def _refill(self, offset: int, length: int) -> None:
        self._deadline.check()
        jump = offset - self._base - len(self._window)
        ahead = _AHEAD if jump <= 0 else _AHEAD_OF_JUMPS if jump <= _SHORT_JUMP else _AFTER_JUMP
        wanted = max(0, min(max(length, ahead), self.size - offset))
        window = os.pread(self._fd, wanted, offset)
        if len(window) < min(length, wanted):
            raise RefusedFileError(Reason.TRUNCATED, "The file became shorter while it was read.")
        self._base, self._window = offset, window
        if offset == 0:
            self.head = window
