"""Deflated data sets are inflated within limits, and deflated anew into a temporary file."""

from __future__ import annotations

import os
import resource
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.source import Limits
from importer.dicom.tag import tag
from support.corpus import instance_bytes, make_instance
from support.dicom_files import NOON, NORTHSIDE, data_set, joined, opened, raw_elements, read_bytes, tag_bytes

if TYPE_CHECKING:
    from pathlib import Path

_DEFLATED = instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, institution="Elsewhere")
_META_END = 144 + int.from_bytes(_DEFLATED[140:144], "little")


def _deflated(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return _DEFLATED[:_META_END] + stream.compress(body) + stream.flush()


def _refused(content: bytes, limits: Limits | None = None) -> Reason:
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content, limits)
    return caught.value.reason


def test_the_deflated_file_lives_until_it_is_closed(tmp_path: Path) -> None:
    with opened(_DEFLATED) as fd:
        header = read_instance(fd)
        with tag(header, fd, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path) as instance:
            (segment,) = instance.segments
            assert not isinstance(segment, bytes)
            assert segment.fd != fd
            content = joined(instance)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(segment.fd)
        os.fstat(fd)
    assert pydicom.dcmread(BytesIO(content)).InstitutionName == "northside"
    assert list(tmp_path.iterdir()) == []


def test_length_is_even() -> None:
    """PS3.5 section A.5."""
    lengths = {
        len(tag_bytes(instance_bytes("SR", transfer_syntax=DeflatedExplicitVRLittleEndian, seed=seed))) % 2
        for seed in range(20)
    }
    assert lengths == {0}


def test_a_native_file_is_not_copied(tmp_path: Path) -> None:
    native = instance_bytes("CT", size=512)
    with opened(native) as fd:
        header = read_instance(fd)
        instance = tag(header, fd, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path)
        in_memory = sum(len(each) for each in instance.segments if isinstance(each, bytes))
    assert instance.temporary is None
    assert in_memory < 4000
    assert {each.fd for each in instance.segments if not isinstance(each, bytes)} == {fd}


def test_large_data_sets_pass_in_chunks() -> None:
    content = instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=600)
    before, after = raw_elements(content), raw_elements(tag_bytes(content))
    assert before[0x7FE00010] == after[0x7FE00010]


def test_a_bomb_is_refused_by_its_size() -> None:
    bomb = _deflated(data_set(_DEFLATED) + bytes(70 << 20))
    assert len(bomb) < 100_000
    assert _refused(bomb) == Reason.INFLATES_TOO_FAR


def test_a_large_file_is_refused_by_its_size() -> None:
    assert _refused(_DEFLATED, Limits(inflated_bytes=1000)) == Reason.INFLATES_TOO_FAR


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_DEFLATED[:-20], Reason.TRUNCATED),
        (_DEFLATED[:_META_END], Reason.TRUNCATED),
        (_DEFLATED[:_META_END] + b"\xff" * 50, Reason.MALFORMED_DEFLATE),
        (_DEFLATED + b"garbage!", Reason.TRAILING_GARBAGE),
        (_deflated(data_set(_DEFLATED)[:-1]), Reason.TRUNCATED),
        (_deflated(b""), Reason.NO_SOP_INSTANCE_UID),
        (_deflated(data_set(_DEFLATED) + data_set(_DEFLATED)), Reason.DUPLICATE_ELEMENT),
    ],
)
def test_damaged_ones_are_refused(content: bytes, reason: Reason) -> None:
    assert _refused(content) == reason


def test_the_trailer_of_gzip_is_tolerated() -> None:
    body = data_set(_DEFLATED)
    trailer = zlib.crc32(body).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    assert tag_bytes(_deflated(body) + trailer) == tag_bytes(_deflated(body))


def test_a_data_set_that_became_shorter_is_not_sent(tmp_path: Path) -> None:
    with opened(_DEFLATED) as fd, opened(_deflated(data_set(_DEFLATED)[:-100])) as other:
        header = read_instance(fd)
        with pytest.raises(RefusedFileError):
            tag(header, other, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path)


def test_its_history_holds_the_old_institution() -> None:
    after = pydicom.dcmread(BytesIO(tag_bytes(_DEFLATED)))
    old = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0].InstitutionName
    assert old == make_instance(institution="Elsewhere").InstitutionName


def test_a_disk_that_is_full_cuts_nothing_short(tmp_path: Path) -> None:
    content = instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=256)
    size = len(tag_bytes(content))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(content) as fd:
        header = read_instance(fd)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                tag(header, fd, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
