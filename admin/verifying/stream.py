"""What the archive sends, as a `Source`: read forward while it comes, its size unknown until it ends."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from importer.dicom.refusal import Reason, RefusedFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 18
_ENDLESS = 1 << 62
_MALFORMED = "What the archive sends cannot be inflated."


class Stream:
    """A `Source` on chunks. Little more than one chunk is held.

    Attributes:
        size: more than any; `is_over` tells where it ends.
    """

    size = _ENDLESS

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._base = 0
        self._window = b""

    def read(self, offset: int, length: int) -> bytes:
        """See `importer.dicom.source.Source.read`; there are always as many bytes as are asked for.

        Raises:
            RefusedFileError: ``truncated``: there are not.
        """
        found = self.up_to(offset, length)
        if len(found) < length:
            raise RefusedFileError(Reason.TRUNCATED, "What the archive sends ends too early.")
        return found

    def up_to(self, offset: int, length: int) -> bytes:
        """As `read`; fewer where it ends."""
        self._reaches(offset, length)
        start = offset - self._base
        return self._window[start : start + length]

    def is_over(self, offset: int) -> bool:
        """Whether nothing but padding follows, which is a few NUL bytes."""
        if self._reaches(offset, _CHUNK):
            return False
        return not any(self._window[offset - self._base :])

    def inflated(self, offset: int) -> Stream:
        """What the deflate stream at `offset` holds; this one is used up by it.

        Raises:
            RefusedFileError: ``malformed-deflate``, while it is read.
        """
        self._reaches(offset, 1)
        return Stream(self._inflate(self._window[offset - self._base :]))

    def _reaches(self, offset: int, length: int) -> bool:
        while offset + length > self._base + len(self._window):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            dropped = min(offset - self._base, len(self._window))
            self._window = self._window[dropped:] + chunk
            self._base += dropped
        return True

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while not stream.eof:
            data = stream.unconsumed_tail or data or next(self._chunks, b"")
            if not data:
                raise RefusedFileError(Reason.MALFORMED_DEFLATE, _MALFORMED)
            try:
                chunk = stream.decompress(data, _CHUNK)
            except zlib.error:
                raise RefusedFileError(Reason.MALFORMED_DEFLATE, _MALFORMED) from None
            data = b""
            if chunk:
                yield chunk
