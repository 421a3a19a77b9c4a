"""Files that break a rule and mean one thing only: they are stored, and all parsers read them alike."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from importer.dicom.refusal import Reason, RefusedFileError
from support.corpus import instance_bytes
from support.dicom_files import (
    HAS_DCMTK,
    data_set,
    dcmtk_identifiers,
    identifiers,
    outcome,
    raw_elements,
    read_bytes,
    tag_bytes,
)
from support.odd_files import (
    CHARACTER_SET,
    IDENTIFYING,
    ODD,
    PATIENT_ID,
    UIDS,
    icon,
    implicit_meta,
    meta_elements,
    stated,
    with_elements,
    with_group_lengths,
    with_meta,
    with_vr,
)
from support.raw import ITEM, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from pathlib import Path

_SMALL = instance_bytes("CT", size=4)
_OWN = dict.fromkeys(UIDS, b"UI") | {CHARACTER_SET: b"CS", PATIENT_ID: b"LO"}


def _refused(content: bytes) -> RefusedFileError:
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content)
    return caught.value


@pytest.mark.parametrize("what", ODD)
def test_odd_file_is_stored_and_read_alike(what: str, tmp_path: Path) -> None:
    tagged = outcome(ODD[what])
    assert tagged is not None
    assert identifiers(read_bytes(tagged)) == identifiers(read_bytes(ODD[what]))
    if HAS_DCMTK:
        path = tmp_path / "odd.dcm"
        path.write_bytes(tagged)
        (seen,) = dcmtk_identifiers([path])
        assert seen == identifiers(read_bytes(tagged))


@pytest.mark.parametrize("vr", [b"UN", b"SH", b"ST", b"LT", b"PN", b"IS", b"DS", b"AE"])
def test_what_identifies_is_sent_in_its_own_vr(vr: bytes) -> None:
    """STOW-RS of Orthanc finds no SOPInstanceUID in a UN."""
    old, new = raw_elements(_SMALL), raw_elements(tag_bytes(with_vr(_SMALL, vr, *IDENTIFYING)))
    own = _OWN | ({PATIENT_ID: b"SH"} if vr == b"SH" else {})
    assert {tag: new[tag] for tag in IDENTIFYING} == {
        tag: explicit(tag, own[tag], old[tag][8:]) for tag in IDENTIFYING
    }
    assert {tag: raw for tag, raw in new.items() if tag not in {*IDENTIFYING, 0x00080080, 0x04000561}} == {
        tag: raw for tag, raw in old.items() if tag not in IDENTIFYING
    }


@pytest.mark.parametrize("vr", [b"UL", b"UN"])
def test_group_lengths_stay_true_where_a_vr_is_put_right(vr: bytes) -> None:
    groups = (0x08, 0x10, 0x20, 0x28)
    content = with_group_lengths(with_vr(_SMALL, b"UN", *IDENTIFYING), vr, *groups)
    tagged = tag_bytes(content)
    assert raw_elements(tagged) == raw_elements(with_group_lengths(tagged, vr, *groups))


@pytest.mark.parametrize("vr", [b"OB", b"DA", b"US"])
@pytest.mark.parametrize("tag", IDENTIFYING)
def test_identifier_in_a_vr_that_is_no_text_is_refused(tag: int, vr: bytes) -> None:
    assert _refused(with_vr(_SMALL, vr, tag)).reason == Reason.UNEXPECTED_VR


def test_patient_id_in_un_is_the_same_patient() -> None:
    """Orthanc keeps the space that pads a UN; what is sent is an LO."""
    other = with_elements(_SMALL, {PATIENT_ID: explicit(PATIENT_ID, b"LO", b"SAMPLE7 ")})
    assert read_bytes(ODD["a PatientID in UN that is padded"]).patient_id == read_bytes(other).patient_id
    assert (
        raw_elements(tag_bytes(ODD["a PatientID in UN that is padded"]))[PATIENT_ID]
        == (raw_elements(other)[PATIENT_ID])
    )


@pytest.mark.parametrize("tag", IDENTIFYING)
@pytest.mark.parametrize("change", ["value", "vr"])
def test_identifier_that_occurs_twice_otherwise_is_refused(tag: int, change: str) -> None:
    element = raw_elements(_SMALL)[tag]
    other = (
        explicit(tag, b"UN", element[8:])
        if change == "vr"
        else element[:-1] + (b"8" if element.endswith(b"7") else b"7")
    )
    content = with_elements(_SMALL, {tag: element + other})
    assert _refused(content).reason == Reason.DUPLICATE_ELEMENT


@pytest.mark.parametrize("tag", [0x00080080, 0x04000561, 0x7FE00010])
def test_what_is_changed_or_shown_occurs_once(tag: int) -> None:
    element = raw_elements(instance_bytes("CT", size=4, institution="Elsewhere")).get(tag)
    element = element or explicit(tag, b"SQ")
    assert _refused(with_elements(_SMALL, {tag: element * 2})).reason == Reason.DUPLICATE_ELEMENT


def test_group_0000_in_explicit_vr_is_refused() -> None:
    """Pydicom takes it for a command in implicit VR, whose length would be the VR."""
    content = with_elements(_SMALL, {0x00000002: explicit(0x00000002, b"UI", b"1.2.840\0")})
    assert _refused(content).reason == Reason.MALFORMED_ELEMENT


def test_the_first_of_two_headers_counts() -> None:
    tagged = pydicom.dcmread(BytesIO(tag_bytes(ODD["a second header behind the first"])))
    assert tagged.file_meta.TransferSyntaxUID == RLELossless


def test_a_header_in_implicit_vr_is_written_anew() -> None:
    content = instance_bytes("CT", size=4, transfer_syntax=ImplicitVRLittleEndian)
    private = (
        implicit(0x00020100, b"1.2.3.4\0") + implicit(0x00020102, b"\1\2") + implicit(0x00021000, b"\1\2")
    )
    tagged = pydicom.dcmread(BytesIO(tag_bytes(with_meta(content, implicit_meta(content) + private))))
    assert data_set(tag_bytes(with_meta(content, implicit_meta(content)))) == data_set(tag_bytes(content))
    assert tagged.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert tagged.file_meta.PrivateInformationCreatorUID == "1.2.3.4"
    assert [tagged.file_meta[tag].VR for tag in (0x00020102, 0x00021000)] == ["OB", "UN"]


@pytest.mark.parametrize("length", [UNDEFINED, 1 << 20])
def test_a_header_in_implicit_vr_that_does_not_end_is_refused(length: int) -> None:
    content = with_meta(_SMALL, meta_elements(_SMALL) + implicit(0x00020102, b"", length))
    assert _refused(content).reason == Reason.MALFORMED_FILE_META


@pytest.mark.parametrize("what", [what for what in ODD if "that is called" in what])
def test_the_true_transfer_syntax_is_stated(what: str) -> None:
    tagged = tag_bytes(ODD[what])
    syntax = pydicom.dcmread(BytesIO(tagged)).file_meta.TransferSyntaxUID
    assert syntax == (ImplicitVRLittleEndian if what.startswith("implicit") else ExplicitVRLittleEndian)
    assert raw_elements(tagged).items() > raw_elements(stated(syntax, ODD[what])).items()


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280010, b"US", b"\5\0"),
        (0x00280011, b"US", b"\0\0"),
        (0x00280100, b"US", b"\x08\0"),
        (0x00280002, b"US", b"\3\0"),
        (0x00280008, b"IS", b"2 "),
        (0x00280008, b"IS", b"x "),
        (0x7FE00010, b"OW", bytes(34)),
    ],
)
def test_native_pixel_data_that_is_called_compressed_must_be_all_there(
    tag: int, vr: bytes, value: bytes
) -> None:
    content = stated(JPEG2000Lossless, with_elements(_SMALL, {tag: explicit(tag, vr, value)}))
    assert _refused(content).reason == Reason.TRANSFER_SYNTAX_MISMATCH


@pytest.mark.parametrize("bits", [1, 8])
def test_native_pixel_data_of_an_odd_length_is_padded(bits: int) -> None:
    changed = {
        0x00280010: explicit(0x00280010, b"US", b"\5\0"),
        0x00280011: explicit(0x00280011, b"US", b"\5\0"),
        0x00280100: explicit(0x00280100, b"US", bytes([bits, 0])),
        0x7FE00010: explicit(0x7FE00010, b"OB", bytes(4 if bits == 1 else 26)),
    }
    header = read_bytes(stated(RLELossless, with_elements(_SMALL, changed)))
    assert header.syntax.uid == ExplicitVRLittleEndian


def test_delimiter_within_a_fragment_of_an_icon_ends_nothing() -> None:
    other = explicit(0x0020000D, b"UI", b"1.2.999\0")
    fragments = implicit(ITEM, implicit(SEQUENCE_END) + other) + implicit(SEQUENCE_END)
    assert outcome(with_elements(_SMALL, {0x00880200: icon(fragments)})) is not None


def test_a_compressed_icon_in_big_endian_is_refused() -> None:
    content = instance_bytes("CT", size=4, transfer_syntax="1.2.840.10008.1.2.2")
    item = b"\xff\xfe\xe0\0" + bytes(4)
    pixels = b"\x7f\xe0\0\x10OB\0\0\xff\xff\xff\xff" + item + b"\xff\xfe\xe0\xdd" + bytes(4)
    sequence = b"\x00\x88\x02\x00SQ\0\0" + (8 + len(pixels)).to_bytes(4, "big")
    nested = sequence + b"\xff\xfe\xe0\0" + len(pixels).to_bytes(4, "big") + pixels
    assert _refused(with_elements(content, {0x00880200: nested})).reason == Reason.MALFORMED_PIXEL_DATA


def test_malformed_uid_is_named() -> None:
    for tag in UIDS:
        content = with_elements(_SMALL, {tag: explicit(tag, b"UI", b"bad-1234")})
        assert f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in _refused(content).text


@pytest.mark.parametrize("rest", [b"", bytes(8), bytes(600), b"\xff" * 600])
def test_fragments_that_are_not_closed_are_told(rest: bytes) -> None:
    content = instance_bytes("US", transfer_syntax=RLELossless, size=4)
    assert _refused(content[:-8] + rest).reason == Reason.MISSING_DELIMITER


@pytest.mark.parametrize("first", [implicit(0x00080010, b"ACR-NEMA 1.0"), implicit(0x00080060, b"MR")])
def test_acr_nema_is_told(first: bytes) -> None:
    error = _refused(
        implicit(0x00080008, b"") + first + implicit(0x00100020, b"AB") + implicit(0x7FE00010, b"  ")
    )
    assert error.reason == Reason.NO_SOP_INSTANCE_UID
    assert "ACR-NEMA" in error.text


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20])
def test_file_without_content_is_told(size: int) -> None:
    assert _refused(bytes(size)).reason == Reason.TRUNCATED
