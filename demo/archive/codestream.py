"""The size that a compressed image states of itself, read before anything is decoded."""

from __future__ import annotations

import struct

# Start of frame: JPEG (ITU-T T.81 table B.1, without DHT, JPG and DAC), JPEG-LS (T.87).
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_2000 = b"\xff\x4f\xff\x51"


def stated_size(codestream: bytes) -> tuple[int, int] | None:
    """Width and height by a JPEG, JPEG-LS or JPEG 2000 header; None for other formats."""
    try:
        at = codestream.find(_JPEG_2000)
        if at >= 0:
            return _jpeg_2000_size(codestream[at + 4 :])
        return _jpeg_size(codestream) if codestream.startswith(b"\xff\xd8") else None
    except (struct.error, IndexError):
        return None


def _jpeg_2000_size(segment: bytes) -> tuple[int, int]:
    # SIZ (T.800 section A.5.1): length, capabilities, then the grid and where the image starts on it.
    width, height, left, top = struct.unpack(">4L", segment[4:20])
    return width - left, height - top


def _jpeg_size(codestream: bytes) -> tuple[int, int] | None:
    at = 2
    while codestream[at] == 0xFF:  # noqa: PLR2004 - every marker starts with it
        marker = codestream[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack(">HH", codestream[at + 5 : at + 9])
            return width, height
        at += 2 + struct.unpack(">H", codestream[at + 2 : at + 4])[0]
    return None
