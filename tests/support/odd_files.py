"""Files as devices and converters write them that break a rule of DICOM, and are stored all the same.

`ODD` has them by what is odd. All parsers must read them alike once they are tagged.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from support.corpus import instance_bytes
from support.dicom_files import raw_elements
from support.raw import ITEM, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from collections.abc import Iterator

CHARACTER_SET, PATIENT_ID = 0x00080005, 0x00100020
UIDS = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
IDENTIFYING = (CHARACTER_SET, PATIENT_ID, *UIDS)
_ICON = 0x00880200
FRAGMENTS = implicit(ITEM) + implicit(ITEM, b"\xff\xd8\xff\xd9") + implicit(SEQUENCE_END)


def _made(what: str, syntax: str = ExplicitVRLittleEndian) -> bytes:
    return instance_bytes("CT", transfer_syntax=syntax, size=4, seed=what)


def meta_end(content: bytes) -> int:
    """Where the file meta information of `instance_bytes` ends."""
    return 144 + int.from_bytes(content[140:144], "little")


def with_elements(content: bytes, changed: dict[int, bytes]) -> bytes:
    """The file with elements, headers and all, exchanged or put in at their place."""
    elements = raw_elements(content)
    head = content[: -len(b"".join(elements.values()))]
    elements |= changed
    return head + b"".join(elements[tag] for tag in sorted(elements))


def with_vr(content: bytes, vr: bytes, *tags: int) -> bytes:
    """The file with another VR of these elements, in explicit VR little endian."""
    elements = raw_elements(content)
    return with_elements(content, {tag: explicit(tag, vr, elements[tag][8:]) for tag in tags})


def with_group_lengths(content: bytes, vr: bytes, *groups: int) -> bytes:
    """The file with group lengths, in explicit VR little endian."""
    elements = raw_elements(content)
    lengths = {
        group << 16: explicit(group << 16, vr, struct.pack("<L", size))
        for group in groups
        if (size := sum(len(raw) for tag, raw in elements.items() if group << 16 < tag < group + 1 << 16))
    }
    return with_elements(content, lengths)


def with_meta(content: bytes, meta: bytes) -> bytes:
    """The file with other file meta information."""
    return content[:132] + meta + content[meta_end(content) :]


def meta_elements(content: bytes) -> bytes:
    """Its file meta information."""
    return content[132 : meta_end(content)]


def implicit_meta(content: bytes) -> bytes:
    """Its file meta information in implicit VR."""
    syntax = explicit(0x00020010, b"UI")[:6]
    start = content.index(syntax) + 8
    uid = content[start : start + int.from_bytes(content[start - 2 : start], "little")]
    return implicit(0x00020000, struct.pack("<L", 8 + len(uid))) + implicit(0x00020010, uid)


def stated(syntax: str, content: bytes) -> bytes:
    """The data set of the file under file meta information that states another transfer syntax."""
    head = instance_bytes("CT", transfer_syntax=syntax, size=32)
    return head[: meta_end(head)] + content[meta_end(content) :]


def icon(fragments: bytes = FRAGMENTS) -> bytes:
    """An icon image sequence whose pixel data is compressed."""
    return explicit(_ICON, b"SQ", implicit(ITEM, explicit(0x7FE00010, b"OB", fragments, UNDEFINED)))


def _odd() -> Iterator[tuple[str, bytes]]:
    for vr in (b"UN", b"LO", b"UT", b"CS", b"UI"):
        what = f"identifiers in {vr.decode()}"
        yield what, with_vr(_made(what), vr, *IDENTIFYING)
    what = "identifiers and group lengths in UN"
    yield what, with_group_lengths(with_vr(_made(what), b"UN", *IDENTIFYING), b"UN", 0x8, 0x10, 0x20)
    what = "a PatientID in UN that is padded"
    yield what, with_elements(_made(what), {PATIENT_ID: explicit(PATIENT_ID, b"UN", b"SAMPLE7 ")})
    what = "a StudyInstanceUID in UN, big endian"
    content = _made(what, ExplicitVRBigEndian)
    uid = raw_elements(content)[0x0020000D][8:]
    element = struct.pack(">HH2sHL", 0x20, 0xD, b"UN", 0, len(uid)) + uid
    yield what, with_elements(content, {0x0020000D: element})
    for group in (1, 3, 4, 5, 6, 7):
        what = f"group {group:04X}"
        yield what, with_elements(_made(what), {group << 16 | 5: explicit(group << 16 | 5, b"CS", b"NOVA")})
    what = "group 0000 in implicit VR"
    yield what, with_elements(_made(what, ImplicitVRLittleEndian), {2: implicit(2, b"1.2.840\0")})
    yield from _odd_heads()
    what = "explicit VR that is called implicit"
    yield what, stated(ImplicitVRLittleEndian, _made(what))
    what = "implicit VR that is called explicit"
    yield what, stated(ExplicitVRLittleEndian, _made(what, ImplicitVRLittleEndian))
    for syntax in (JPEG2000Lossless, RLELossless):
        what = f"native pixel data that is called {syntax.name}"
        yield what, stated(syntax, _made(what))
    what = "a compressed icon in a native file"
    yield what, with_elements(_made(what), {_ICON: icon()})
    for tag in IDENTIFYING:
        what = f"({tag >> 16:04x},{tag & 0xFFFF:04x}) twice, the same"
        content = _made(what)
        yield what, with_elements(content, {tag: raw_elements(content)[tag] * 2})

    what = "a StudyInstanceUID in UN, and again in its own VR"
    content = _made(what)
    element = raw_elements(content)[0x0020000D]
    yield what, with_elements(content, {0x0020000D: explicit(0x0020000D, b"UN", element[8:]) + element})


def _odd_heads() -> Iterator[tuple[str, bytes]]:
    what = "a second header behind the first"
    content = instance_bytes("US", transfer_syntax=RLELossless, seed=what)
    other = instance_bytes("US", transfer_syntax=JPEG2000Lossless)
    yield what, with_meta(content, meta_elements(content) + meta_elements(other))
    what = "a header in implicit VR"
    content = _made(what, ImplicitVRLittleEndian)
    yield what, with_meta(content, implicit_meta(content))
    what = "a header whose SOP class is none"
    content = _made(what)
    syntax = explicit(0x00020010, b"UI", b"1.2.840.10008.1.2.1\0")
    yield what, with_meta(content, explicit(0x00020002, b"UI", b"CT Image\0\0") + syntax)


ODD = dict(_odd())
