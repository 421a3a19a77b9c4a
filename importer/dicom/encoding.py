"""How data elements are written: encodings, value representations and transfer syntaxes of PS3.5."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

from pydicom.datadict import DicomDictionary, dictionary_VR  # type: ignore[attr-defined]  # not in __all__

from pacs.ids import Uid

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010

# PS3.5 section 7.1.2: VRs with a two-byte length, and those with two reserved bytes and four of length.
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())

# PS3.6: what an implicit VR means.
KNOWN_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
KNOWN_OTHERS = frozenset(DicomDictionary) - KNOWN_SEQUENCES


def usual_vr(tag: int) -> bytes:
    """The VR of an element that does not state it (PS3.6); ``UN`` for an unknown one."""
    try:
        return dictionary_VR(tag).encode("ascii")
    except KeyError:
        return b"UN"


def tag_name(tag: int) -> str:
    """The tag as DICOM writes it, for sentences."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True)
class Encoding:
    """VR encoding and byte order of a data set (PS3.5 sections 7.1 and 7.3)."""

    explicit: bool
    big_endian: bool = False
    short: Struct = field(init=False, compare=False, repr=False)
    plain: Struct = field(init=False, compare=False, repr=False)
    uint32: Struct = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        order = ">" if self.big_endian else "<"
        object.__setattr__(self, "short", Struct(f"{order}HH2sH"))
        object.__setattr__(self, "plain", Struct(f"{order}HHL"))
        object.__setattr__(self, "uint32", Struct(f"{order}L"))

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """The bytes before an element's value."""
        if not self.explicit:
            return self.plain.pack(tag >> 16, tag & 0xFFFF, length)
        if vr in LONG_VRS:
            return self.short.pack(tag >> 16, tag & 0xFFFF, vr, 0) + self.uint32.pack(length)
        return self.short.pack(tag >> 16, tag & 0xFFFF, vr, length)

    def element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        """A whole element; `value` is padded to even length as its VR wants it (PS3.5 section 6.2)."""
        if len(value) % 2:
            value += b"\0" if vr in {b"UI", b"OB"} else b" "
        return self.header(tag, vr, len(value)) + value

    def item_header(self, length: int) -> bytes:
        """The header of a sequence item, which has no VR in any encoding."""
        return self.plain.pack(ITEM >> 16, ITEM & 0xFFFF, length)


IMPLICIT_LITTLE = Encoding(explicit=False)
EXPLICIT_LITTLE = Encoding(explicit=True)
EXPLICIT_BIG = Encoding(explicit=True, big_endian=True)

IMPLICIT_LITTLE_UID = Uid("1.2.840.10008.1.2")
EXPLICIT_LITTLE_UID = Uid("1.2.840.10008.1.2.1")
DEFLATED_UID = Uid("1.2.840.10008.1.2.1.99")
EXPLICIT_BIG_UID = Uid("1.2.840.10008.1.2.2")
# PS3.5 A.5, A.7 and A.12: the whole data set is deflated.
_DEFLATED = frozenset({DEFLATED_UID, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_NATIVE = _DEFLATED | {IMPLICIT_LITTLE_UID, EXPLICIT_LITTLE_UID, EXPLICIT_BIG_UID}
_RLE = "1.2.840.10008.1.2.5"
_COMPRESSED = "1.2.840.10008.1.2.4."
# PS3.5 A.6 and A.11: its pixel data is elsewhere.
_NOT_COMPRESSED = _DEFLATED | {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.204"}


@dataclass(frozen=True)
class TransferSyntax:
    """What a transfer syntax says of the bytes of a data set.

    Every syntax that is not listed here, known or private, is explicit VR little endian with pixel data
    that may be encapsulated (PS3.5 section A.4).
    """

    uid: Uid

    @property
    def encoding(self) -> Encoding:
        """VR encoding and byte order."""
        if self.uid == IMPLICIT_LITTLE_UID:
            return IMPLICIT_LITTLE
        return EXPLICIT_BIG if self.uid == EXPLICIT_BIG_UID else EXPLICIT_LITTLE

    @property
    def is_deflated(self) -> bool:
        """Whether everything after the file meta information is a deflate stream (RFC 1951)."""
        return self.uid in _DEFLATED

    @property
    def is_encapsulated(self) -> bool:
        """Whether pixel data may come in fragments."""
        return self.uid not in _NATIVE

    @property
    def must_encapsulate(self) -> bool:
        """Whether pixel data may come in fragments only. DCMTK refuses it otherwise (measured)."""
        return self.uid == _RLE or (self.uid.startswith(_COMPRESSED) and self.uid not in _NOT_COMPRESSED)

    @property
    def is_standard(self) -> bool:
        """Whether the UID is one that DICOM gave."""
        return self.uid.startswith("1.2.840.10008.")
