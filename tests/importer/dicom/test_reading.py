"""What the importer reads of a file, and of files that are not as they should be."""

from __future__ import annotations

import tempfile
from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import Reason, RefusedFileError, SkippedFileError
from support.corpus import PATIENTS, SamplePatient, instance_bytes, make_instance, to_bytes
from support.dicom_files import data_set, identifiers, pydicom_identifiers, read_bytes, tag_bytes
from support.raw import implicit

if TYPE_CHECKING:
    from importer.dicom.source import Limits


def _refused(content: bytes, limits: Limits | None = None) -> RefusedFileError:
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content, limits)
    return caught.value


def _explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    if vr in {b"UN", b"OB", b"SQ"}:
        return head + bytes(2) + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def _meta_end(content: bytes) -> int:
    return 144 + int.from_bytes(content[140:144], "little")


@pytest.mark.parametrize("patient", sorted(PATIENTS))
def test_header_holds_the_identifiers(patient: str) -> None:
    ds = make_instance("MR", patient=patient, institution="Elsewhere")
    header = read_bytes(to_bytes(ds))
    assert identifiers(header) == pydicom_identifiers(to_bytes(ds))
    assert header.sop_class_uid == ds.SOPClassUID
    assert header.institution_name.rstrip() == b"Elsewhere"
    assert header.syntax.uid == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("ISO_IR 144", "Образец-7"),
        ("ISO_IR 192", "Үлгі-7"),
        (["", "ISO 2022 IR 87"], "見本7"),
        ("ISO_IR 127", "عينة7"),
        ("GB18030", "样本7"),
    ],
)
def test_patient_id_is_decoded_with_the_character_set(character_set: str | list[str], text: str) -> None:
    ds = make_instance(patient=SamplePatient(text, "Sample^Aurora", character_set))
    assert read_bytes(to_bytes(ds)).patient_id == text


@pytest.mark.parametrize(
    ("character_set", "value", "text"),
    [
        ("ISO_IR 13", b"\xd0\xce\xdd7", "\uff90\uff8e\uff9d7"),
        # What cannot be decoded must not stop the file, and what Orthanc leaves out makes no other patient.
        ("NONSENSE", b"\xc47", "7"),
        ("ISO_IR 192", b"\xff7", "7"),
        ("ISO_IR 192", b"R\xe9ab", "Rb"),
        ("ISO_IR 192", b"A\xe0\x80\x80B ", "AB"),
        ("", b"M\xc3\xbcl ", "M\u00fcl "),
        ("", b"M\xfcl ", "Ml"),
        ("ISO_IR 100", b"AB1\xa0", "AB1\u00a0"),
        ("ISO_IR 100", b"AB1\x85", "AB1\x85"),
        ("ISO_IR 192", b"AB\xe3\x80\x80 ", "AB\u3000"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe87 ", "\uae407"),
        ("ISO 2022 IR 100\\ISO 2022 IR 87", b"\x1b$B8+K\x1b(B", "8+K"),
        # Where converters differ, only the same bytes in the same set are the same.
        ("ISO_IR 13", b"A~", "A~\x01shift_jis"),
        ("iso_ir_192", b"\xc3\xbc", "\u00c3\u00bc\x01iso_ir_192"),
        ("iso_ir_192", b"AB", "AB"),
        ("ISO 2022 IR 87", b"A\x1bB ", "A\x1bB\x01iso2022_jp"),
        ("\\ISO 2022 IR 58", b"A\xff", "A\u00ff\x01gb2312+"),
        ("ISO 2022 IR 58", b"A\xff", "A\u00ff\x01gb2312"),
        ("GB18030", b"\xa1\xaa", "\u00a1\u00aa\x01gb18030"),
    ],
)
def test_patient_id_is_decoded_from_bytes(character_set: str, value: bytes, text: str) -> None:
    old, new = (_explicit(0x00080005, b"CS", _even(v)) for v in (b"ISO_IR 100", character_set.encode()))
    assert read_bytes(_replace_patient_id(value).replace(old, new)).patient_id == text


@pytest.mark.parametrize(
    ("padded", "text"),
    [
        (b"SAMPLE-1\0\0", "SAMPLE-1"),
        (b"SAMPLE-1\0 ", "SAMPLE-1"),
        (b"SAMPLE-1  ", "SAMPLE-1"),
        # For Orthanc all of these are other patients.
        (b" SAMPLE-1 ", " SAMPLE-1"),
        (b"  SAMPLE-1  ", "  SAMPLE-1"),
        (b"SAMPLE-1 ", "SAMPLE-1 "),
        (b"SAMPLE- \0", "SAMPLE- "),
        (b"SAMPLE \0", "SAMPLE "),
    ],
)
def test_patient_id_is_trimmed_as_orthanc_does(padded: bytes, text: str) -> None:
    assert read_bytes(_replace_patient_id(padded)).patient_id == text


def _replace_patient_id(value: bytes) -> bytes:
    content = instance_bytes()
    old = _explicit(0x00100020, b"LO", b"SAMPLE-1")
    assert old in content
    return content.replace(old, _explicit(0x00100020, b"LO", value))


def test_patient_id_with_a_nul_inside_is_refused() -> None:
    assert _refused(_replace_patient_id(b"AB\0SAMPLE")).reason == Reason.MALFORMED_PATIENT_ID


def test_a_missing_patient_id_is_an_empty_one() -> None:
    ds = make_instance()
    del ds.PatientID
    assert read_bytes(to_bytes(ds)).patient_id == ""


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keep", ["nothing", "group 0002"])
def test_data_set_of_an_old_device_is_given_a_part_10_header(syntax: str, keep: str) -> None:
    content = instance_bytes("CR", transfer_syntax=syntax)
    bare = data_set(content) if keep == "nothing" else content[132:]
    tagged = tag_bytes(bare)
    assert tagged[:132] == bytes(128) + b"DICM"
    assert identifiers(read_bytes(bare)) == pydicom_identifiers(tagged) == pydicom_identifiers(content)
    meta = pydicom.dcmread(BytesIO(tagged)).file_meta
    assert meta.TransferSyntaxUID == syntax
    assert meta.MediaStorageSOPInstanceUID == read_bytes(content).sop_instance_uid


def test_bare_data_set_with_encapsulated_pixels_is_refused() -> None:
    bare = data_set(instance_bytes(transfer_syntax=JPEGBaseline8Bit))
    assert _refused(bare).reason == Reason.MALFORMED_PIXEL_DATA


@pytest.mark.parametrize(
    "content", [b"hello", b"\x08\0", bytes(4096) + b"x", b"DICM" * 100, b"\x08\0\x05\0" * 300]
)
def test_what_is_no_dicom_is_refused_as_such(content: bytes) -> None:
    assert _refused(content).reason == Reason.NOT_DICOM


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_identifier_is_refused_and_the_others_are_told(keyword: str, value: str | None) -> None:
    ds = make_instance()
    expected = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID") if k != keyword}
    delattr(ds, keyword) if value is None else setattr(ds, keyword, value)
    content = BytesIO()
    ds.save_as(content, enforce_file_format=False)
    error = _refused(content.getvalue())
    assert error.reason == f"no-{ {'SOP': 'sop', 'Stu': 'study', 'Ser': 'series'}[keyword[:3]] }-instance-uid"
    assert error.uids.items() >= expected.items()
    assert keyword not in error.uids


def test_sop_class_uid_is_taken_from_the_file_meta_information_where_it_is_missing() -> None:
    ds = make_instance()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    content = to_bytes(ds).replace(
        _explicit(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        _explicit(0x00080016, b"UI", b""),
    )
    assert read_bytes(content).sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert _refused(data_set(content)).reason == Reason.NO_SOP_CLASS_UID


@pytest.mark.parametrize("value", [b"1.2.3\\1.2.4", b"1.2.x4", b"1.2\0.3 ", b" 1.2.3", b"1..2", b"1.2." * 20])
def test_malformed_uid_is_refused(value: bytes) -> None:
    content = instance_bytes(study_uid="1.2.3.4.5")
    old = _explicit(0x0020000D, b"UI", b"1.2.3.4.5\0")
    assert old in content
    value += b"\0" * (len(value) % 2)
    assert _refused(content.replace(old, _explicit(0x0020000D, b"UI", value))).reason == Reason.MALFORMED_UID


@pytest.mark.parametrize("value", [b"1.2.3.4.5\0", b"1.2.3.4.5 ", b"1.2.3.4.5", b"1.2.3.4.5\0\0\0"])
def test_padding_of_a_uid_is_not_part_of_it(value: bytes) -> None:
    content = instance_bytes(study_uid="1.2.3.4.5")
    content = content.replace(
        _explicit(0x0020000D, b"UI", b"1.2.3.4.5\0"), _explicit(0x0020000D, b"UI", value)
    )
    assert read_bytes(content).study_instance_uid == "1.2.3.4.5"


def _as_directory(content: bytes) -> bytes:
    return content.replace(
        _explicit(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        _explicit(0x00020002, b"UI", b"1.2.840.10008.1.3.10"),
    )


@pytest.mark.parametrize("encoding", ["explicit", "implicit"])
def test_a_dicomdir_is_skipped(encoding: str) -> None:
    write = (lambda tag, _, value: implicit(tag, value)) if encoding == "implicit" else _explicit
    records = write(0x00041130, b"CS", b"DISC") + write(0x00041220, b"SQ", b"")
    content = instance_bytes()
    with pytest.raises(SkippedFileError) as caught:
        read_bytes(_as_directory(content[: _meta_end(content)]) + records)
    assert caught.value.reason == Reason.DICOMDIR


def test_an_image_that_calls_itself_a_directory_is_an_image() -> None:
    content = instance_bytes()
    assert tag_bytes(_as_directory(content)) == tag_bytes(content)


def test_an_image_that_calls_itself_a_directory_must_say_what_it_is() -> None:
    content = _as_directory(instance_bytes()).replace(
        _explicit(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"), _explicit(0x00080016, b"UI", b"")
    )
    assert _refused(content).reason == Reason.NO_SOP_CLASS_UID


@pytest.mark.parametrize("rest", [b"", b"\4\0", _explicit(0x00041130, b"CS", b"DISC")])
def test_what_only_calls_itself_a_directory_is_not_skipped(rest: bytes) -> None:
    content = instance_bytes()
    _refused(_as_directory(content[: _meta_end(content)]) + rest)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 100, 4096])
def test_nul_bytes_that_fill_the_last_block_are_left_out(length: int) -> None:
    content = instance_bytes()
    assert tag_bytes(content + bytes(length)) == tag_bytes(content)


def test_data_set_trailing_padding_is_kept() -> None:
    padding = _explicit(0xFFFCFFFC, b"OB", bytes(100))
    assert tag_bytes(instance_bytes() + padding).endswith(padding)


_FILLED_UP = [bytes(5000), bytes(600_000), b"\xff" * 8, b"\xff" * 5000, b"\n", b"\r\n", b"\r\n\x1a"]


@pytest.mark.parametrize("rest", _FILLED_UP)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_what_fills_up_the_file_behind_the_pixel_data_is_left_out(rest: bytes, syntax: str) -> None:
    content = instance_bytes(transfer_syntax=syntax)
    assert tag_bytes(content + rest) == tag_bytes(content)


@pytest.mark.parametrize("rest", _FILLED_UP)
def test_a_file_that_is_filled_up_without_pixel_data_may_be_half_of_one(rest: bytes) -> None:
    assert _refused(instance_bytes("SR") + rest).reason in {"trailing-garbage", "truncated"}


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (bytes(5000) + b"x", "trailing-garbage"),
        (bytes(600_000) + b"x", "trailing-garbage"),
        (bytes(20) + b"x", "trailing-garbage"),
        (bytes(5000) + b"\xff" * 5000, "trailing-garbage"),
        (b"\xff" * 5000 + bytes(8), "trailing-garbage"),
        (b"\n" * 8, "unknown-vr"),
        # The first bytes of another element.
        (b"\xff" * 3, "truncated"),
        (b"\xfa", "truncated"),
        (b" ", "truncated"),
    ],
)
def test_other_bytes_after_the_data_set_are_refused(rest: bytes, reason: str) -> None:
    assert _refused(instance_bytes() + rest).reason == reason


def test_a_file_is_filled_up_with_a_gigabyte_at_most() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(instance_bytes())
        file.truncate(file.tell() + (1 << 30) + 1)
        with pytest.raises(RefusedFileError) as caught:
            read_instance(file.fileno())
    assert caught.value.reason == Reason.TRAILING_GARBAGE


@pytest.mark.parametrize("uid", ["1.2.3.99.1", "1.2.840.10008.1.2.4.999"])
def test_unknown_transfer_syntax_is_explicit_little_endian(uid: str) -> None:
    """PS3.5 section A.4."""
    old, new = (_explicit(0x00020010, b"UI", v) for v in (b"1.2.840.10008.1.2.4.50", _even(uid.encode())))
    content = instance_bytes(transfer_syntax=JPEGBaseline8Bit).replace(old, new)
    header = read_bytes(content)
    assert header.syntax.uid == uid
    assert pydicom.dcmread(BytesIO(tag_bytes(content))).file_meta.TransferSyntaxUID == uid


def test_private_transfer_syntax_that_is_not_explicit_is_refused() -> None:
    old, new = (_explicit(0x00020010, b"UI", _even(v)) for v in (b"1.2.840.10008.1.2", b"1.2.840.113619.5.2"))
    content = instance_bytes(transfer_syntax=ImplicitVRLittleEndian).replace(old, new)
    assert _refused(content).reason == Reason.UNKNOWN_TRANSFER_SYNTAX


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


@pytest.mark.parametrize(
    ("stated", "actual"),
    [
        (ImplicitVRLittleEndian, ExplicitVRBigEndian),
        (ExplicitVRBigEndian, ImplicitVRLittleEndian),
        (JPEGBaseline8Bit, ImplicitVRLittleEndian),
    ],
)
def test_transfer_syntax_that_is_not_true_is_refused(stated: str, actual: str) -> None:
    meta, body = instance_bytes(transfer_syntax=stated), data_set(instance_bytes(transfer_syntax=actual))
    assert _refused(meta[: _meta_end(meta)] + body).reason == Reason.TRANSFER_SYNTAX_MISMATCH


def test_wrong_group_length_of_the_file_meta_information_does_not_matter() -> None:
    content = instance_bytes()
    wrong = content[:140] + (7).to_bytes(4, "little") + content[144:]
    assert tag_bytes(wrong) == tag_bytes(content)


def test_errors_name_no_value_of_the_file() -> None:
    error = _refused(_replace_patient_id(b"SAMPLE\0SECRET-7"))
    assert "SECRET" not in str(error)
