"""Every DICOM file that pydicom ships: stored, skipped or failed, each with its stated reason."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.dicom.tag import tag
from support.dicom_files import (
    HAS_DCMTK,
    NOON,
    NORTHSIDE,
    dcmtk_identifiers,
    identifiers,
    joined,
    pydicom_identifiers,
)

_DATA = Path(pydicom.__file__).parent / "data"
# Of all in test_files and charset_files, what is not stored. Whatever is not named here must be.
_NOT_STORED = {
    # Text, archives and profiles beside the images.
    **dict.fromkeys(
        (
            "charset_files/FileInfo.txt",
            "test_files/README.txt",
            "test_files/crayons.icc",
            "test_files/dicomdirtests/README.txt",
            "test_files/dicomdirtests/TINY_ALPHA/README",
            "test_files/rtplan.dump",
            "test_files/rtstruct.dump",
            "test_files/test1.json",
            "test_files/test_PN.json",
            "test_files/zipMR.gz",
        ),
        "not-dicom",
    ),
    # Begins with a stray byte.
    "test_files/no_meta.dcm": "not-dicom",
    **dict.fromkeys(
        (
            "test_files/dicomdirtests/DICOMDIR",
            "test_files/dicomdirtests/DICOMDIR-bigEnd",
            "test_files/dicomdirtests/DICOMDIR-empty.dcm",
            "test_files/dicomdirtests/DICOMDIR-implicit",
            "test_files/dicomdirtests/DICOMDIR-nooffset",
            "test_files/dicomdirtests/DICOMDIR-nopatient",
            "test_files/dicomdirtests/DICOMDIR-reordered",
            "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR",
        ),
        "dicomdir",
    ),
    # Cut off within pixel data, and within a sequence.
    "test_files/MR_truncated.dcm": "truncated",
    "test_files/rtplan_truncated.dcm": "truncated",
    # Snippets that hold no identifiers.
    **dict.fromkeys(
        (
            "charset_files/chrSQEncoding.dcm",
            "charset_files/chrSQEncoding1.dcm",
            "test_files/UN_sequence.dcm",
            "test_files/empty_charset_LEI.dcm",
            "test_files/nested_priv_SQ.dcm",
            "test_files/no_meta_group_length.dcm",
            "test_files/priv_SQ.dcm",
        ),
        "no-sop-instance-uid",
    ),
    **dict.fromkeys(
        (
            "test_files/JPEGLSNearLossless_08.dcm",
            "test_files/JPEGLSNearLossless_16.dcm",
            "test_files/SC_rgb_jls_lossy_line.dcm",
            "test_files/SC_rgb_jls_lossy_sample.dcm",
        ),
        "no-study-instance-uid",
    ),
    "test_files/meta_missing_tsyntax.dcm": "unknown-transfer-syntax",
    # States JPEG, is written in implicit VR: DCMTK refuses it, too.
    "test_files/SC_rgb_jpeg.dcm": "transfer-syntax-mismatch",
}
_FILES = sorted(
    path.relative_to(_DATA).as_posix()
    for folder in ("test_files", "charset_files")
    for path in (_DATA / folder).rglob("*")
    if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
)


def test_the_table_names_only_files_that_are_there() -> None:
    assert set(_NOT_STORED) <= set(_FILES)
    assert len(_FILES) > 150


@pytest.mark.parametrize("name", _FILES)
def test_file_has_its_stated_outcome(name: str, tmp_path: Path) -> None:
    fd = os.open(_DATA / name, os.O_RDONLY)
    try:
        header = read_instance(fd)
        with tag(header, fd, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path) as instance:
            content = joined(instance)
        outcome = "stored"
    except UnstorableFileError as error:
        outcome = str(error.reason)
    finally:
        os.close(fd)
    assert outcome == _NOT_STORED.get(name, "stored")
    if outcome == "stored":
        assert pydicom_identifiers(content) == identifiers(header)


@pytest.mark.skipif(not HAS_DCMTK, reason="dcmtk is not installed")
def test_dcmtk_reads_what_is_stored_as_the_importer_does(tmp_path: Path) -> None:
    expected = {}
    for name in _FILES:
        # Of 70 instances that differ in one number, one will do.
        if name in _NOT_STORED or ("TINY_ALPHA" in name and not name.endswith("IM000000")):
            continue
        fd = os.open(_DATA / name, os.O_RDONLY)
        header = read_instance(fd)
        path = tmp_path / name.replace("/", "_")
        with tag(header, fd, NORTHSIDE, modified_at=NOON, temporary_folder=tmp_path) as instance:
            path.write_bytes(joined(instance))
        os.close(fd)
        expected[path] = identifiers(header)
    assert dcmtk_identifiers(list(expected)) == list(expected.values())
