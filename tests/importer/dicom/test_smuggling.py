"""Files that two parsers would read differently are refused: a study could be filed under another's UID.

DCMTK is the parser of Orthanc, pydicom that of the embedded archive.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from importer.dicom.refusal import Reason, RefusedFileError
from support.corpus import instance_bytes, make_instance, to_bytes
from support.dicom_files import (
    HAS_DCMTK,
    IDENTIFIERS,
    dcmtk_identifiers,
    identifiers,
    inserted,
    outcome,
    raw_elements,
    read_bytes,
)
from support.raw import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from pathlib import Path

_SQ = 0x00081140  # ReferencedImageSequence
_PRIVATE = 0x00091010
_END = implicit(SEQUENCE_END, b"")
_OTHER_STUDY = b"1.2.999\0"
_EXPLICIT_OTHER = explicit(0x0020000D, b"UI", _OTHER_STUDY)
_IMPLICIT_OTHER = implicit(0x0020000D, _OTHER_STUDY)


_SMUGGLERS = {
    "a second StudyInstanceUID: DCMTK takes the first, pydicom the last": (
        ExplicitVRLittleEndian, 0x0020000E, _EXPLICIT_OTHER, Reason.DUPLICATE_ELEMENT),
    "a second one behind the pixel data": (
        ExplicitVRLittleEndian, 0x7FE00010, _EXPLICIT_OTHER, Reason.DUPLICATE_ELEMENT),
    "a StudyInstanceUID before group 0010": (
        ExplicitVRLittleEndian, 0x00100010, _EXPLICIT_OTHER, Reason.ELEMENT_OUT_OF_ORDER),
    "a PatientID before its place": (
        ImplicitVRLittleEndian, 0x00080060, implicit(0x00180050, b""), Reason.ELEMENT_OUT_OF_ORDER),
    "an item that claims more than its sequence: DCMTK reads on": (
        ImplicitVRLittleEndian, 0x00100010,
        implicit(_SQ, implicit(ITEM, implicit(0x00080050, b""), 80)), Reason.MALFORMED_SEQUENCE),
    "an element that claims more than its item": (
        ExplicitVRLittleEndian, 0x00100010,
        explicit(_SQ, b"SQ", implicit(ITEM, explicit(0x00080050, b"SH", b"", 80))),
        Reason.MALFORMED_SEQUENCE),
    "a private sequence that only DCMTK's dictionary may know": (
        ImplicitVRLittleEndian, 0x00100010,
        implicit(_PRIVATE, implicit(ITEM, b"12345678", 80)), Reason.MALFORMED_SEQUENCE),
    "a delimiter in a sequence of defined length: DCMTK ends it there": (
        ImplicitVRLittleEndian, 0x00100010,
        implicit(_SQ, _END + _IMPLICIT_OTHER), Reason.MALFORMED_SEQUENCE),
    "the same in a private element": (
        ImplicitVRLittleEndian, 0x00100010,
        implicit(_PRIVATE, _END + _IMPLICIT_OTHER), Reason.MALFORMED_SEQUENCE),
    "a text of undefined length: pydicom searches the delimiter's bytes": (
        ImplicitVRLittleEndian, 0x00100010,
        implicit(0x00081030, implicit(ITEM, _END + _IMPLICIT_OTHER) + _END, UNDEFINED),
        Reason.UNDEFINED_LENGTH),
    "bytes of undefined length": (
        ExplicitVRLittleEndian, 0x00100010,
        explicit(_PRIVATE, b"OB", implicit(ITEM, _END + _EXPLICIT_OTHER) + _END, UNDEFINED),
        Reason.UNDEFINED_LENGTH),
    "an unknown VR: DCMTK reads four bytes of length, pydicom two": (
        ExplicitVRLittleEndian, 0x00100010, explicit(_PRIVATE, b"XX", bytes(8)), Reason.UNKNOWN_VR),
    "a VR that is DCMTK's own": (
        ExplicitVRLittleEndian, 0x00100010, explicit(_PRIVATE, b"ox", bytes(8)), Reason.UNKNOWN_VR),
    "an item of a UN that pydicom takes for explicit": (
        ExplicitVRLittleEndian, 0x00100010,
        explicit(_PRIVATE, b"UN", implicit(ITEM, implicit(0x00080050, bytes(0x4141))) + _END, UNDEFINED),
        Reason.MALFORMED_SEQUENCE),
    "a UN of undefined length in big endian: pydicom does not read it in little endian": (
        ExplicitVRBigEndian, 0x00100010, struct.pack(">HH2sHL", 9, 0x1010, b"UN", 0, UNDEFINED) + _END,
        Reason.UNDEFINED_LENGTH),
    "a delimiter on the top level": (
        ExplicitVRLittleEndian, 0x00100010, _END, Reason.MALFORMED_ELEMENT),
    "a delimiter with a length": (
        ExplicitVRLittleEndian, 0x00100010,
        explicit(_SQ, b"SQ", implicit(SEQUENCE_END, b"", 8), UNDEFINED), Reason.MALFORMED_SEQUENCE),
    "group 0002 in the data set": (
        ExplicitVRLittleEndian, 0x00100010, explicit(0x00020010, b"UI", b"1.2\0"), Reason.MALFORMED_ELEMENT),
    "fragments in a native transfer syntax": (
        ExplicitVRLittleEndian, 0x00100010, explicit(0x7FE00010, b"OB", _END, UNDEFINED),
        Reason.MALFORMED_PIXEL_DATA),
    "a second InstitutionName": (
        ExplicitVRLittleEndian, 0x00080090, explicit(0x00080080, b"LO", b"") * 2, Reason.DUPLICATE_ELEMENT),
    "an InstitutionName that is a sequence": (
        ExplicitVRLittleEndian, 0x00080090, explicit(0x00080080, b"SQ", b""), Reason.UNEXPECTED_VR),
    "a history that is none": (
        ExplicitVRLittleEndian, 0x7FE00010, explicit(0x04000561, b"LO", b"A "), Reason.UNEXPECTED_VR),
    "a history in UN that cannot be continued": (
        ExplicitVRLittleEndian, 0x7FE00010, explicit(0x04000561, b"UN", b"0123456789"),
        Reason.MALFORMED_SEQUENCE),
}  # fmt: skip


@pytest.mark.parametrize("name", _SMUGGLERS)
def test_file_that_parsers_read_differently_is_refused(name: str) -> None:
    syntax, place, new, reason = _SMUGGLERS[name]
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(inserted(syntax, place, new))
    assert caught.value.reason == reason


def test_identifier_behind_the_pixel_data_is_refused() -> None:
    ds = make_instance("CT", size=4)
    del ds.StudyInstanceUID
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(to_bytes(ds) + _EXPLICIT_OTHER)
    assert caught.value.reason == Reason.ELEMENT_OUT_OF_ORDER


def test_sequence_in_un_is_walked_in_implicit_vr() -> None:
    """PS3.5 section 6.2.2: what looks like an identifier in it is none."""
    items = implicit(ITEM, _IMPLICIT_OTHER + implicit(ITEM_END, b""), UNDEFINED)
    content = inserted(ExplicitVRLittleEndian, 0x00100010, explicit(_PRIVATE, b"UN", items + _END, UNDEFINED))
    assert outcome(content) is not None


def test_delimiter_within_a_fragment_ends_nothing() -> None:
    content = instance_bytes("US", transfer_syntax=RLELossless, size=4)
    fragment = implicit(ITEM, _END + _EXPLICIT_OTHER)
    assert outcome(content[:-8] + fragment + content[-8:]) is not None


_IMPLICIT_SPLICES = (
    lambda dice: implicit(ITEM, dice.choice((b"", _IMPLICIT_OTHER)), _length(dice)),
    lambda _: implicit(ITEM_END),
    lambda _: _END,
    lambda _: _IMPLICIT_OTHER,
    lambda dice: implicit(_SQ, b"", _length(dice)),
    # A private sequence of DCMTK's dictionary.
    lambda dice: implicit(0x00290010, b"SIEMENS MEDCOM HEADER ") + implicit(0x00291140, b"", _length(dice)),
    lambda dice: implicit(0x00081030, b"", _length(dice)),
    lambda dice: implicit(_PRIVATE, bytes(dice.choice((0, 2, 8)))),
    lambda dice: bytes(dice.choice((1, 2, 4, 8))),
)
_EXPLICIT_SPLICES = (
    lambda dice: implicit(ITEM, dice.choice((b"", _EXPLICIT_OTHER, _IMPLICIT_OTHER)), _length(dice)),
    lambda _: implicit(ITEM_END),
    lambda _: _END,
    lambda _: _EXPLICIT_OTHER,
    lambda dice: explicit(_SQ, b"SQ", b"", _length(dice)),
    lambda dice: explicit(_PRIVATE, dice.choice((b"UN", b"OB")), b"", _length(dice)),
    lambda dice: explicit(0x00081030, b"LO", bytes(dice.choice((0, 2, 8)))),
    lambda dice: explicit(_PRIVATE, b"XX", bytes(dice.choice((0, 2, 8)))),
    lambda dice: bytes(dice.choice((1, 2, 4, 8))),
)


def _length(dice: random.Random) -> int:
    return dice.choice((UNDEFINED, 0, 2, 3, 4, 8, 10, 16, 20, 24, 30, 40, 100))


def _spliced(content: bytes, syntax: str, dice: random.Random) -> bytes:
    """The file with pieces of sequences put between two of its elements, once or twice."""
    splices = _IMPLICIT_SPLICES if syntax == ImplicitVRLittleEndian else _EXPLICIT_SPLICES
    elements = list(raw_elements(content).values())
    head = content[: -len(b"".join(elements))]
    for _ in range(dice.choice((1, 1, 2))):
        new = b"".join(dice.choice(splices)(dice) for _ in range(dice.choice((1, 2, 2, 3, 4))))
        elements.insert(dice.randrange(len(elements)), new)
    return head + b"".join(elements)


@pytest.mark.long
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
def test_spliced_files_are_read_alike_or_refused(syntax: str, tmp_path: Path) -> None:
    content, dice = instance_bytes("US", transfer_syntax=syntax, size=4), random.Random(f"splice {syntax}")
    tagged = [made for _ in range(1200) if (made := outcome(_spliced(content, syntax, dice))) is not None]
    assert len(tagged) > 20
    if not HAS_DCMTK:
        return
    paths = [tmp_path / f"{number}.dcm" for number in range(len(tagged))]
    for path, made in zip(paths, tagged, strict=True):
        path.write_bytes(made)
    for made, seen in zip(tagged, dcmtk_identifiers(paths), strict=True):
        assert seen is None or {k: seen[k] for k in IDENTIFIERS} == identifiers(read_bytes(made))
