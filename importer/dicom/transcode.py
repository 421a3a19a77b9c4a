"""Deflated data sets (PS3.5 section A.5): a forward-only view of what they inflate to, and deflating anew.

Nothing is inflated to disk or held whole: reading a file inflates it twice (once for its size and the check
of the limits, once for its elements), tagging it once more into a temporary deflated file.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.source import Deadline, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from importer.dicom.source import Limits

_CHUNK = 1 << 18
_INPUT = 1 << 16
# Below this no ratio is too high: the empty parts of an image deflate a thousandfold.
_ALWAYS_ALLOWED = 64 << 20
_PADDING = 4096


def inflate(fd: int, offset: int, limits: Limits) -> Iterator[bytes]:
    """What the deflate stream (RFC 1951, without a header) at `offset` holds, in chunks of up to 256 KB.

    Raises:
        RefusedFileError: ``malformed-deflate``, ``truncated``, ``inflates-too-far``, ``trailing-garbage``,
            ``takes-too-long``.
        OSError: the file system failed: this says nothing about the file.
    """
    stored = os.fstat(fd).st_size - offset
    allowed = min(limits.inflated_bytes, max(_ALWAYS_ALLOWED, stored * limits.inflated_ratio))
    size = 0
    deadline = Deadline(limits)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    while not stream.eof:
        deadline.check()
        data = stream.unconsumed_tail
        if not data:
            data = os.pread(fd, _INPUT, offset)
            offset += len(data)
        if not data:
            raise RefusedFileError(Reason.TRUNCATED, "The deflated data set ends too early.")
        try:
            chunk = stream.decompress(data, _CHUNK)
        except zlib.error:
            raise RefusedFileError(Reason.MALFORMED_DEFLATE, "The data set cannot be inflated.") from None
        size += len(chunk)
        if size > allowed:
            raise RefusedFileError(Reason.INFLATES_TOO_FAR, "The data set inflates to more than is allowed.")
        if chunk:
            yield chunk
    rest = stream.unused_data + os.pread(fd, _PADDING + 1, offset)
    if rest[4:8] == (size & 0xFFFFFFFF).to_bytes(4, "little"):
        # Some writers leave the trailer of gzip (RFC 1952): CRC and size.
        rest = rest[8:]
    if any(rest) or len(rest) > _PADDING:
        raise RefusedFileError(Reason.TRAILING_GARBAGE, "Something follows the deflated data set.")


class InflatedSource(Window):
    """A `Source` on what a deflate stream holds: it can only be read forward."""

    def __init__(self, fd: int, offset: int, limits: Limits) -> None:
        self.size = sum(len(chunk) for chunk in inflate(fd, offset, limits))
        super().__init__(inflate(fd, offset, limits))

    def copy(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end` in chunks."""
        while start < end:
            chunk = self.read(start, min(_CHUNK, end - start))
            if not chunk:
                raise RefusedFileError(Reason.TRUNCATED, "The file became shorter while it was read.")
            start += len(chunk)
            yield chunk


def deflate(chunks: Iterable[bytes], into: BinaryIO) -> None:
    """Write `chunks` as one deflate stream, padded with a NUL to even length (PS3.5 section A.5)."""
    # Half a gigabyte keeps an uploader for 1 s instead of 7, and becomes 2 % larger (measured).
    stream = zlib.compressobj(level=zlib.Z_BEST_SPEED, wbits=-zlib.MAX_WBITS)
    written = 0
    for chunk in chunks:
        written += into.write(stream.compress(chunk))
    written += into.write(stream.flush())
    if written % 2:
        into.write(b"\0")
