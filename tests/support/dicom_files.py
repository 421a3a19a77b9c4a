"""What tests of the DICOM file layer share: files from bytes, and what other parsers make of them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.filereader import data_element_generator
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian

from admin.verifying.comparison import difference
from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.dicom.tag import tag
from pacs.ids import ClinicId
from support.corpus import instance_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.dicom.part10 import InstanceHeader
    from importer.dicom.source import Limits
    from importer.dicom.tag import TaggedInstance

NORTHSIDE = ClinicId("northside")
NOON = datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=5)))
IDENTIFIERS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID")
HAS_DCMTK = shutil.which("dcmdump") is not None

_TAGS = dict(zip(IDENTIFIERS, ("(0008,0018)", "(0020,000d)", "(0020,000e)", "(0010,0020)"), strict=True))


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    """A file descriptor of an unnamed file with this content."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def read_bytes(content: bytes, limits: Limits | None = None) -> InstanceHeader:
    """`read_instance` of a file with this content."""
    with opened(content) as fd:
        return read_instance(fd, limits)


def joined(instance: TaggedInstance) -> bytes:
    """All bytes of the segments, after a check of the size that is announced."""
    content = b"".join(
        each if isinstance(each, bytes) else os.pread(each.fd, each.length, each.offset)
        for each in instance.segments
    )
    assert len(content) == instance.size
    return content


def tag_bytes(content: bytes, clinic: ClinicId = NORTHSIDE) -> bytes:
    """What the archive is sent for a file with this content."""
    with opened(content) as fd:
        header = read_instance(fd)
        folder = Path(tempfile.gettempdir())
        with tag(header, fd, clinic, modified_at=NOON, temporary_folder=folder) as instance:
            return joined(instance)


def identifiers(header: InstanceHeader) -> dict[str, str]:
    """What the importer believes the file is."""
    return {
        "SOPInstanceUID": header.sop_instance_uid,
        "StudyInstanceUID": header.study_instance_uid,
        "SeriesInstanceUID": header.series_instance_uid,
        "PatientID": header.patient_id,
    }


def pydicom_identifiers(content: bytes) -> dict[str, str]:
    """What pydicom believes it is."""
    ds = pydicom.dcmread(BytesIO(content), force=True)
    values = {keyword: ds.get(keyword) or "" for keyword in IDENTIFIERS}
    return {
        keyword: "\\".join(value).strip() if isinstance(value, MultiValue) else str(value).strip()
        for keyword, value in values.items()
    }


def dcmtk_identifiers(paths: Sequence[Path]) -> list[dict[str, str] | None]:
    """What DCMTK, Orthanc's parser, believes each is; None for what it cannot parse."""
    output = subprocess.run(
        ["dcmdump", "-q", "-Un", "+L", "+F", *map(str, paths)],
        capture_output=True,
        check=False,
        timeout=60,
    ).stdout.decode("utf-8", "replace")
    found: dict[str, dict[str, str]] = {}
    for part in output.split("# dcmdump (")[1:]:
        name, *lines = part.splitlines()
        values = {line[:11]: line[15:] for line in reversed(lines) if line[:11] in _TAGS.values()}
        if "# Dicom-Data-Set" in lines:
            found[name.split(": ", 1)[1]] = {
                keyword: _shown(values.get(tag, "")) for keyword, tag in _TAGS.items()
            }
    return [found.get(str(path)) for path in paths]


def _shown(text: str) -> str:
    return text[1 : text.rindex("]")].strip() if text.startswith("[") else ""


def data_set(content: bytes) -> bytes:
    """The data set of a Part 10 file, inflated."""
    start = 144 + int.from_bytes(content[140:144], "little")
    syntax = pydicom.dcmread(BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID
    if syntax.is_deflated:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:])
    return content[start:]


def raw_elements(content: bytes) -> dict[int, bytes]:
    """The bytes of each element of the top level, headers and all, as pydicom divides the data set."""
    syntax = pydicom.dcmread(BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID
    stream = BytesIO(data := data_set(content))
    elements: list[tuple[int, bytes]] = []
    start = 0
    for element in data_element_generator(stream, syntax.is_implicit_VR, syntax.is_little_endian):
        elements.append((int(element.tag), data[start : stream.tell()]))
        start = stream.tell()
    assert start == len(data)
    assert max(Counter(tag for tag, _ in elements).values()) == 1
    return dict(elements)


def outcome(content: bytes) -> bytes | None:
    """The tagged file, whose identifiers pydicom must see as we do; or None where it is refused."""
    try:
        header = read_bytes(content)
    except UnstorableFileError:
        return None
    tagged = tag_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pydicom_identifiers(tagged) == identifiers(header)
    return tagged


def compared(content: bytes, archived: bytes) -> tuple[str, list[ClinicId]]:
    """What differs, and the clinics that the archive's copy was tagged for."""
    clinics: list[ClinicId] = []
    with opened(content) as fd:
        told = difference(read_instance(fd), fd, iter([archived]), lambda owners: not clinics.extend(owners))
    return told, clinics


def inserted(syntax: str, tag: int, new: bytes) -> bytes:
    """A CT file with bytes inserted before the element `tag`."""
    content = instance_bytes("CT", transfer_syntax=syntax, size=4)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    place = content.index(struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF), 400)
    return content[:place] + new + content[place:]
