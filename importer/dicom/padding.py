"""What may follow a data set in its file: it is no part of it and left out, since DCMTK stumbles over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.dicom.refusal import Reason, RefusedFileError

if TYPE_CHECKING:
    from importer.dicom.source import Source

_HEADER = 8
_BLOCK = 4096
# Nobody fills up more than that, and all of it has to be read.
_MOST = 1 << 30
_CHUNK = 1 << 18
_FILLERS = (b"\0", b"\xff")
_LINE_ENDS = b"\r\n\x1a"


def require_padding(source: Source, start: int, *, behind_pixels: bool) -> None:
    """Check that what is there from `start` on is none of the data set, so that nothing of it is missing.

    Old media and gateways fill up their last block with NULs. More of them, 0xFF (what flash memory is erased
    to) and the end of a line (of a transfer as text) are taken for padding only behind the pixel data, where
    all of the image is there and no tag begins like that. Elsewhere a file may be half of one: an RT plan
    (group 300A, no pixel data) that is cut off behind the first byte of a tag ends in a line feed, and one
    that was made as long as it is going to be is full of NULs behind any element.

    Raises:
        RefusedFileError: it is something else (``truncated``, ``trailing-garbage``).
    """
    rest = source.read(start, _BLOCK)
    if not rest.strip(b"\0") and start + len(rest) == source.size:
        return
    if len(rest) < _HEADER:
        if behind_pixels and not rest.strip(_LINE_ENDS):
            return
        raise RefusedFileError(Reason.TRUNCATED, "The file ends within an element.")
    if not (behind_pixels and is_filled(source, start, rest[:1])):
        raise RefusedFileError(
            Reason.TRAILING_GARBAGE, f"What follows the data set at byte {start} is not a data element."
        )


def is_filled(source: Source, start: int, filler: bytes) -> bool:
    """Whether nothing but NULs, or nothing but 0xFF, is there from `start` on: a gigabyte at most."""
    if filler not in _FILLERS or source.size - start > _MOST:
        return False
    return not any(source.read(place, _CHUNK).strip(filler) for place in range(start, source.size, _CHUNK))
