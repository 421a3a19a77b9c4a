"""The clinic's name goes in, the old one is kept, and nothing else changes."""

from __future__ import annotations

import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.tag import tag
from support.corpus import (
    ENCAPSULATED_SYNTAXES,
    IMAGE_MODALITIES,
    MODALITIES,
    NATIVE_SYNTAXES,
    PATIENTS,
    make_instance,
    to_bytes,
)
from support.dicom_files import (
    HAS_DCMTK,
    NOON,
    NORTHSIDE,
    data_set,
    dcmtk_identifiers,
    identifiers,
    pydicom_identifiers,
    raw_elements,
    read_bytes,
    tag_bytes,
)
from support.raw import explicit

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_INSTITUTION = 0x00080080
_HISTORY = 0x04000561
_GROUP_LENGTHS = (0x00080000, 0x04000000)
_MAY_CHANGE = {_INSTITUTION, _HISTORY, *_GROUP_LENGTHS}
_KINDS = [
    (modality, syntax)
    for modality in MODALITIES
    for syntax in (*NATIVE_SYNTAXES, *(ENCAPSULATED_SYNTAXES if modality in IMAGE_MODALITIES else ()))
]


def _with_group_length(content: bytes, place: int) -> bytes:
    """A group length before the group of `place`, which pydicom does not write any more."""
    elements = raw_elements(content)
    group = [raw for tag, raw in elements.items() if tag >> 16 == place >> 16]
    if not group or place in elements:
        return content
    syntax = pydicom.dcmread(BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    tag = (place >> 16).to_bytes(2, order) + bytes(2)
    head = (4).to_bytes(4, order) if syntax.is_implicit_VR else b"UL" + (4).to_bytes(2, order)
    element = tag + head + sum(map(len, group)).to_bytes(4, order)
    body = data_set(content)
    return content[: -len(body)] + body.replace(group[0], element + group[0], 1)


def _history_item(*, undefined: bool) -> Dataset:
    item, modified = Dataset(), Dataset()
    modified.PatientID = "older"
    item.ModifiedAttributesSequence = [modified]
    item.AttributeModificationDateTime = "20200101"
    item.ModifyingSystem, item.SourceOfPreviousValues = "elsewhere", ""
    item.ReasonForTheAttributeModification = "CORRECT"
    item.is_undefined_length_sequence_item = undefined
    return item


def _add_history(ds: FileDataset, items: int, *, undefined: bool) -> None:
    ds.OriginalAttributesSequence = Sequence([_history_item(undefined=undefined) for _ in range(items)])
    ds["OriginalAttributesSequence"].is_undefined_length = undefined
    ds.add_new(0x04000100, "UI", "1.2.3")
    ds.add_new(0x04010010, "LO", "BEHIND THE HISTORY")


def _add_private(ds: FileDataset, values: list[bytes], *, undefined: bool) -> None:
    block = ds.private_block(0x0029, "SAMPLE", create=True)
    for number, value in enumerate(values):
        block.add_new(number, "OB", value + b"\0" * (len(value) % 2))
    inner = Dataset()
    inner.InstitutionName, inner.StudyInstanceUID = "not this one", "1.2.3.4"
    inner.is_undefined_length_sequence_item = undefined
    ds.RequestAttributesSequence = Sequence([inner, inner])
    ds["RequestAttributesSequence"].is_undefined_length = undefined


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    modality, syntax = draw(st.sampled_from(_KINDS))
    ds = make_instance(
        modality,
        transfer_syntax=syntax,
        patient=draw(st.sampled_from(sorted(PATIENTS))),
        institution=draw(st.sampled_from([None, "", "Odd", "Even", "x" * 64])),
    )
    _add_private(ds, draw(st.lists(st.binary(max_size=40), max_size=3)), undefined=draw(st.booleans()))
    if draw(st.booleans()):
        _add_history(ds, draw(st.integers(0, 2)), undefined=draw(st.booleans()))
    content = to_bytes(ds)
    if not syntax.is_deflated:
        for place in draw(st.sets(st.sampled_from(_GROUP_LENGTHS))):
            content = _with_group_length(content, place)
    return content


def _check(content: bytes, tagged: bytes) -> None:
    old, new = raw_elements(content), raw_elements(tagged)
    assert {t: raw for t, raw in old.items() if t not in _MAY_CHANGE} == {
        t: raw for t, raw in new.items() if t not in _MAY_CHANGE
    }
    assert list(new) == sorted(new)
    assert set(new) - set(old) <= {_INSTITUTION, _HISTORY}
    before, after = pydicom.dcmread(BytesIO(content)), pydicom.dcmread(BytesIO(tagged))
    assert after.InstitutionName == "northside"
    assert [e for e in before if e.tag not in _MAY_CHANGE] == [e for e in after if e.tag not in _MAY_CHANGE]
    _check_history(before, after)
    for place in _GROUP_LENGTHS:
        if place in new:
            rest = sum(len(raw) for tag, raw in new.items() if tag >> 16 == place >> 16 and tag != place)
            assert after[place].value == rest
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID


def _check_history(before: Dataset, after: Dataset) -> None:
    *older, item = after.OriginalAttributesSequence
    assert older == list(before.get("OriginalAttributesSequence", []))
    assert [element.tag for element in item] == [0x04000550, *range(0x04000562, 0x04000566)]
    assert item.ModifiedAttributesSequence[0].InstitutionName == before.get("InstitutionName", "")
    assert item.ModifyingSystem == "clinicpacs"
    assert item.SourceOfPreviousValues == ""
    assert item.ReasonForTheAttributeModification == "COERCE"
    assert str(item.AttributeModificationDateTime) == "20240506120000.250000+0500"


@given(content=_files())
@settings(max_examples=150, deadline=None)
def test_only_the_clinic_its_history_and_group_lengths_change(content: bytes) -> None:
    tagged = tag_bytes(content)
    _check(content, tagged)
    assert pydicom_identifiers(tagged) == identifiers(read_bytes(content)) == identifiers(read_bytes(tagged))


@pytest.mark.skipif(not HAS_DCMTK, reason="dcmtk is not installed")
def test_dcmtk_reads_every_kind_of_tagged_file(tmp_path: Path) -> None:
    expected = {}
    for number, (modality, syntax) in enumerate(_KINDS):
        ds = make_instance(modality, transfer_syntax=syntax, institution="Elsewhere")
        _add_private(ds, [b"any"], undefined=bool(number % 2))
        _add_history(ds, number % 3, undefined=bool(number % 2))
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(tag_bytes(to_bytes(ds)))
        expected[path] = identifiers(read_bytes(to_bytes(ds)))
    assert dcmtk_identifiers(list(expected)) == list(expected.values())


@pytest.mark.parametrize("transfer_syntax", NATIVE_SYNTAXES + ENCAPSULATED_SYNTAXES)
def test_pixels_decode_to_the_same_after_tagging(transfer_syntax: str) -> None:
    content = to_bytes(make_instance("US", transfer_syntax=transfer_syntax))
    before, after = pydicom.dcmread(BytesIO(content)), pydicom.dcmread(BytesIO(tag_bytes(content)))
    assert (before.pixel_array == after.pixel_array).all()
    assert before.PixelData == after.PixelData


def test_a_file_tagged_twice_keeps_both_items_in_order() -> None:
    content = to_bytes(make_instance(institution="Elsewhere"))
    after = pydicom.dcmread(BytesIO(tag_bytes(tag_bytes(content))))
    replaced = [
        item.ModifiedAttributesSequence[0].InstitutionName for item in after.OriginalAttributesSequence
    ]
    assert replaced == ["Elsewhere", "northside"]


@pytest.mark.parametrize("patient", sorted(PATIENTS))
def test_a_name_in_any_script_and_the_old_institution_in_it_survive(patient: str) -> None:
    someone = PATIENTS[patient]
    ds = make_instance(patient=patient, institution=someone.name.partition("^")[2].partition("=")[0])
    after = pydicom.dcmread(BytesIO(tag_bytes(to_bytes(ds))))
    assert after.PatientName == someone.name
    assert (
        after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].InstitutionName
        == ds.InstitutionName
    )


@pytest.mark.parametrize("undefined", [True, False])
def test_a_history_that_became_un_is_continued_in_implicit_vr(*, undefined: bool) -> None:
    """PS3.5 section 6.2.2: a node without a dictionary makes UN of the sequence."""
    ds = make_instance(transfer_syntax=ImplicitVRLittleEndian, institution="Elsewhere")
    _add_history(ds, 1, undefined=undefined)
    implicit = raw_elements(to_bytes(ds))[_HISTORY]
    ds = make_instance()
    ds.add_new(0x04010010, "LO", "BEHIND")
    content = to_bytes(ds)
    un = implicit[:4] + b"UN\0\0" + implicit[4:]
    behind = raw_elements(content)[0x04010010]
    # The second time shows that the item of the first is implicit, too: pydicom would read either.
    after = pydicom.dcmread(BytesIO(tag_bytes(tag_bytes(content.replace(behind, un + behind)))))
    systems = [item.ModifyingSystem for item in after.OriginalAttributesSequence]
    assert systems == ["elsewhere", "clinicpacs", "clinicpacs"]
    assert after[0x04010010].value == "BEHIND"


def test_the_old_preamble_does_not_reach_the_archive() -> None:
    """A preamble may make a program or a TIFF of the file; its offsets are wrong after tagging."""
    content = to_bytes(make_instance())
    assert tag_bytes(b"MZ" + content[2:])[:132] == bytes(128) + b"DICM"


def test_other_elements_of_the_file_meta_information_are_kept() -> None:
    ds = make_instance()
    ds.file_meta.SourceApplicationEntityTitle = "CT_ROOM_1"
    after = pydicom.dcmread(BytesIO(tag_bytes(to_bytes(ds))))
    assert after.file_meta.SourceApplicationEntityTitle == "CT_ROOM_1"
    assert after.file_meta.ImplementationVersionName == "CLINICPACS"


_ALMOST_4_GB = 0xFFFFFFF0


def _tagged(file: BinaryIO) -> bytes:
    header = read_instance(file.fileno())
    folder = Path(tempfile.gettempdir())
    with tag(header, file.fileno(), NORTHSIDE, modified_at=NOON, temporary_folder=folder) as instance:
        return b"".join(each for each in instance.segments if isinstance(each, bytes))


@pytest.mark.parametrize("hole", [0, _ALMOST_4_GB])
def test_what_stands_out_of_order_is_no_more_of_its_group(hole: int) -> None:
    content = _with_group_length(to_bytes(make_instance(size=4)), 0x00080000)
    expected = raw_elements(tag_bytes(content))[0x00080000][-4:]
    with tempfile.TemporaryFile() as file:
        file.write(content + explicit(0x7FE10010, b"OB", length=hole))
        file.seek(hole, os.SEEK_CUR)
        file.write(explicit(0x00080060, b"CS", b"CT"))
        file.flush()
        assert expected in _tagged(file)


def test_a_group_whose_length_cannot_be_written_is_refused() -> None:
    content = _with_group_length(to_bytes(make_instance(size=4)), 0x00080000)
    elements = raw_elements(content)
    place = content.index(elements[0x00100010])
    with tempfile.TemporaryFile() as file:
        file.write(content[:place] + explicit(0x0008FFFF, b"OB", length=_ALMOST_4_GB))
        file.seek(_ALMOST_4_GB, os.SEEK_CUR)
        file.write(content[place:])
        file.flush()
        with pytest.raises(RefusedFileError) as caught:
            _tagged(file)
    assert caught.value.reason == Reason.MALFORMED_ELEMENT
