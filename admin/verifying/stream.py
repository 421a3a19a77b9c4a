"""What the archive sends, as a `Source`: read forward while it comes, its size unknown until it ends."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.source import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 18
_ENDLESS = 1 << 62
_CUT_OFF = "What the archive sends ends too early."


class Stream:
    """A `Source` on chunks. Little more than one chunk is held.

    Attributes:
        size: more than any; `is_over` tells where it ends.
    """

    size = _ENDLESS

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._window = Window(chunks)

    def read(self, offset: int, length: int) -> bytes:
        """See `importer.dicom.source.Source.read`; there are always as many bytes as are asked for.

        Raises:
            RefusedFileError: ``truncated``: there are not.
        """
        found = self.up_to(offset, length)
        if len(found) < length:
            raise RefusedFileError(Reason.TRUNCATED, _CUT_OFF)
        return found

    def up_to(self, offset: int, length: int) -> bytes:
        """As `read`; fewer where it ends."""
        return self._window.read(offset, length)

    def is_over(self, offset: int) -> bool:
        """Whether nothing but padding follows, which is a few NUL bytes."""
        rest = self.up_to(offset, _CHUNK)
        return len(rest) < _CHUNK and not any(rest)

    def inflated(self, offset: int) -> Stream:
        """What the deflate stream at `offset` holds; this one is used up by it.

        Raises:
            RefusedFileError: ``malformed-deflate`` or ``truncated``, while it is read.
        """
        return Stream(self._inflate(offset))

    def _inflate(self, offset: int) -> Iterator[bytes]:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while not stream.eof:
            data = stream.unconsumed_tail
            if not data:
                data = self.up_to(offset, _CHUNK)
                offset += len(data)
            if not data:
                raise RefusedFileError(Reason.TRUNCATED, _CUT_OFF)
            try:
                chunk = stream.decompress(data, _CHUNK)
            except zlib.error:
                raise RefusedFileError(
                    Reason.MALFORMED_DEFLATE, "What the archive sends cannot be inflated."
                ) from None
            yield chunk
