"""Data elements as bytes, also such as no library would write."""

from __future__ import annotations

import struct

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({b"SQ", b"UN", b"OB", b"OW", b"UT"})


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    """An element in implicit VR little endian, an item or a delimiter; `length` may be a lie."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def explicit(tag: int, vr: bytes, value: bytes = b"", length: int | None = None) -> bytes:
    """An element in explicit VR little endian."""
    size = len(value) if length is None else length
    if vr in _LONG:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, size) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, size) + value
