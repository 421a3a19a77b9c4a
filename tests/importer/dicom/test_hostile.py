"""Damaged and hostile files: refused, or read by pydicom and DCMTK as the importer reads them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.source import FileSource, Limits
from support.corpus import instance_bytes, make_instance, to_bytes
from support.dicom_files import (
    HAS_DCMTK,
    data_set,
    dcmtk_identifiers,
    inserted,
    outcome,
    read_bytes,
    tag_bytes,
)
from support.raw import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from pathlib import Path

_SQ = 0x00081140  # ReferencedImageSequence
_PRIVATE = 0x00091010


def _nested(syntax: str, *, undefined: bool) -> bytes:
    """A small instance with sequences in sequences and a private block."""
    ds = make_instance("SR", transfer_syntax=syntax, institution="Elsewhere")
    inner, outer = Dataset(), Dataset()
    inner.StudyInstanceUID, inner.PatientID = "1.2.3", "OTHER"
    outer.RequestAttributesSequence = Sequence([inner])
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = undefined
    outer["RequestAttributesSequence"].is_undefined_length = undefined
    ds.ReferencedImageSequence = Sequence([outer, outer])
    ds["ReferencedImageSequence"].is_undefined_length = undefined
    return to_bytes(ds)


_SMALL = {
    "explicit": instance_bytes("CT", size=4),
    "implicit": instance_bytes("CT", transfer_syntax=ImplicitVRLittleEndian, size=4),
    "big endian": instance_bytes("CT", transfer_syntax=ExplicitVRBigEndian, size=4, institution="Elsewhere"),
    "defined lengths": _nested(ImplicitVRLittleEndian, undefined=False),
    "undefined lengths": _nested(ExplicitVRLittleEndian, undefined=True),
    "undefined implicit": _nested(ImplicitVRLittleEndian, undefined=True),
    "fragments": instance_bytes("US", transfer_syntax=RLELossless, size=4),
    "deflated": instance_bytes("SR", transfer_syntax=DeflatedExplicitVRLittleEndian),
    "bare": data_set(instance_bytes("CT", transfer_syntax=ImplicitVRLittleEndian, size=4)),
}


@pytest.mark.parametrize("name", _SMALL)
def test_truncated_anywhere(name: str) -> None:
    """Only between two elements of the top level, and where the identifiers are there, can it be taken."""
    content = _SMALL[name]
    accepted = sum(outcome(content[:length]) is not None for length in range(len(content)))
    assert accepted < 40


def _damaged(content: bytes, count: int, seed: str) -> list[bytes]:
    dice = random.Random(seed)
    variants = []
    for _ in range(count):
        variant = bytearray(content)
        for _ in range(dice.choice((1, 1, 2, 4))):
            place = dice.randrange(len(variant))
            variant[place] = dice.choice((variant[place] ^ 1 << dice.randrange(8), 0, 0xFF, 0xFE, 0x08, 0x20))
        variants.append(bytes(variant))
    return variants


@pytest.mark.parametrize("name", _SMALL)
def test_flipped_bits(name: str, tmp_path: Path) -> None:
    tagged = [made for variant in _damaged(_SMALL[name], 250, name) if (made := outcome(variant)) is not None]
    if not HAS_DCMTK:
        return
    paths = [tmp_path / f"{number}.dcm" for number in range(len(tagged))]
    for path, content in zip(paths, tagged, strict=True):
        path.write_bytes(content)
    for content, seen in zip(tagged, dcmtk_identifiers(paths), strict=True):
        # What DCMTK cannot parse, the archive refuses: nothing is filed wrongly.
        assert seen is None or seen["StudyInstanceUID"] == read_bytes(content).study_instance_uid
        assert seen is None or seen["SOPInstanceUID"] == read_bytes(content).sop_instance_uid
        assert seen is None or seen["SeriesInstanceUID"] == read_bytes(content).series_instance_uid


@pytest.mark.parametrize("kind", ["sequence", "item", "fragments"])
def test_what_is_not_closed_at_the_end_of_the_file_is_refused(kind: str) -> None:
    """A copy that broke off there: every element that it has is whole."""
    item = implicit(ITEM, explicit(0x00080050, b"SH", b"") + implicit(ITEM_END, b""), UNDEFINED)
    content = {
        "sequence": instance_bytes("CT", size=4) + explicit(0xFFFA0001, b"SQ", item, UNDEFINED),
        "item": instance_bytes("CT", size=4) + explicit(0xFFFA0001, b"SQ", item[:-8], UNDEFINED),
        "fragments": _SMALL["fragments"][:-8],
    }[kind]
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content)
    assert caught.value.reason == Reason.MISSING_DELIMITER


def test_second_transfer_syntax_in_the_file_meta_information_is_not_sent() -> None:
    """DCMTK believes the first, pydicom the last: the archive gets one."""
    content = _SMALL["fragments"]
    syntax = explicit(0x00020010, b"UI", b"1.2.840.10008.1.2.5\0")
    other = explicit(0x00020010, b"UI", b"1.2.840.10008.1.2.4.50")
    assert syntax in content
    assert tag_bytes(content.replace(syntax, syntax + other)) == tag_bytes(content)


def test_a_file_that_shrinks_is_truncated(tmp_path: Path) -> None:
    """A writer that starts anew while the file is read."""
    path = tmp_path / "shrinking.dcm"
    path.write_bytes(instance_bytes("CT", size=64))
    with path.open("r+b") as file:
        source = FileSource(file.fileno())
        file.truncate(2000)
        with pytest.raises(RefusedFileError) as caught:
            source.read(1990, 20)
    assert caught.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 100_000])
@pytest.mark.parametrize("vr", [b"OB", b"SQ", b"UT"])
def test_length_beyond_the_file(vr: bytes, length: int) -> None:
    content = inserted(ExplicitVRLittleEndian, 0x00100010, explicit(_PRIVATE, vr, b"", length))
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content)
    assert caught.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize("depth", [65, 50_000])
def test_deep_sequences_are_refused(depth: int) -> None:
    deep = (implicit(_SQ, b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)) * depth
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(inserted(ImplicitVRLittleEndian, 0x00100010, deep))
    assert caught.value.reason == Reason.TOO_DEEP


def test_sequences_may_nest_as_deep_as_the_limit() -> None:
    ends = implicit(ITEM_END) + implicit(SEQUENCE_END)
    deep = (implicit(_SQ, b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)) * 64 + ends * 64
    assert read_bytes(inserted(ImplicitVRLittleEndian, 0x00100010, deep))


@pytest.mark.parametrize("new", [implicit(_PRIVATE, b""), implicit(_SQ, implicit(ITEM, b""))])
def test_work_is_bounded(new: bytes) -> None:
    content = inserted(ImplicitVRLittleEndian, 0x00100010, new * 2000)
    assert read_bytes(content)
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content, Limits(elements=1000))
    assert caught.value.reason == Reason.TOO_MANY_ELEMENTS


def test_a_file_may_have_an_element_more_for_each_64_bytes() -> None:
    """A slide of 150,000 tiles says where each of them belongs."""
    content = inserted(ImplicitVRLittleEndian, 0x00100010, implicit(_PRIVATE, bytes(80)) * 2000)
    assert read_bytes(content, Limits(elements=0))


@pytest.mark.parametrize("name", ["implicit", "deflated"])
def test_what_takes_too_long_is_refused(name: str) -> None:
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(_SMALL[name], Limits(seconds=-1))
    assert caught.value.reason == Reason.TAKES_TOO_LONG


def test_file_meta_information_without_end_is_refused() -> None:
    """Each element is kept until the file is stored: half a megabyte of empty ones would become 14."""
    content = _SMALL["implicit"]
    endless = b"".join(explicit(0x00021000 + number, b"SH") for number in range(100))
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content[:132] + endless + content[132:])
    assert caught.value.reason == Reason.MALFORMED_FILE_META


def test_groups_without_end_are_not_kept() -> None:
    content = _SMALL["explicit"] + b"".join(
        explicit(group << 16 | 0x10, b"SH") for group in range(0x7FE1, 0xFFFE)
    )
    assert len(read_bytes(content).group_ends) < 5


@pytest.mark.parametrize("name", ["explicit", "implicit", "big endian", "fragments", "bare"])
def test_an_image_that_ends_before_its_pixel_data_may_be_half_an_image(name: str) -> None:
    """A writer that pauses there has made a data set that reads like a whole one: it is known as such."""
    content = _SMALL[name]
    place = content.rindex(b"\x7f\xe0\0\x10" if name == "big endian" else b"\xe0\x7f\x10\0")
    assert read_bytes(content[:place]).lacks_pixels
    assert not read_bytes(content).lacks_pixels


def test_pixel_data_that_occurs_twice_is_refused() -> None:
    content = _SMALL["explicit"]
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content + content[content.rindex(b"\xe0\x7f\x10\0") :])
    assert caught.value.reason == Reason.DUPLICATE_ELEMENT


def test_fragments_are_counted() -> None:
    content = instance_bytes("US", transfer_syntax=RLELossless, size=4)
    content = content[:-8] + implicit(ITEM, b"") * 2000 + content[-8:]
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content, Limits(elements=1000))
    assert caught.value.reason == Reason.TOO_MANY_ELEMENTS
