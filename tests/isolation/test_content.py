"""What a DICOM file holds is a stranger's: it runs nowhere, and takes the archive away from nobody."""

from __future__ import annotations

import json
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from support import marked
from support.corpus import to_bytes
from support.marked import MarkedStudy
from support.platform import NORTH

if TYPE_CHECKING:
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
OCTETS = 'multipart/related; type="application/octet-stream"'
PAGE = b"<html><script>alert(document.domain)</script><svg onload=alert(1)></html>" + b" " * 9001
CDA = b'<?xml version="1.0"?><?xml-stylesheet href="javascript:alert(1)"?><ClinicalDocument/>' + b" " * 9001
KINDS = {
    "pdf": (
        b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>" + b" " * 9000,
        "application/pdf",
    ),
    "html as pdf": (PAGE, "application/pdf"),
    "html": (PAGE, "text/html"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>' + b" " * 9000, "image/svg+xml"),
    "cda": (CDA, "text/xml"),
    "a type with a line feed": (PAGE, "text/html\r\nX-Evil: 1"),
}
HARMLESS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}
NAMES = {
    "markup": '<img src=x onerror="alert(1)">^<script>',
    "escapes": "\x1b]0;owned\x07^\x1b[2J\x1b[31mred",
    "json": '","BulkDataURI":"https://stranger.example/x',
    "a template": "{{7*7}}^${7*7}^%{7*7}",
}
DOCUMENTS = {
    name: MarkedStudy(marked.NORTH, NORTH, 20 + number, ("PDF",)) for number, name in enumerate(KINDS)
}
PEOPLE = {name: MarkedStudy(marked.NORTH, NORTH, 40 + number, ("US",)) for number, name in enumerate(NAMES)}
BOMB = MarkedStudy(marked.NORTH, NORTH, 60, ("US",))
SIDE = 65_500


def bomb() -> bytes:
    """A JPEG of a few hundred bytes that claims, as its header does, to have 65,500 x 65,500 pixels."""
    buffer = BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", quality=10)
    jpeg = bytearray(buffer.getvalue())
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", SIDE, SIDE)
    ds = dcmread(BytesIO(BOMB.file("US")))
    del ds.NumberOfFrames
    ds.Rows = ds.Columns = SIDE
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([bytes(jpeg)])
    ds["PixelData"].VR = "OB"
    return to_bytes(ds)


@pytest.fixture(scope="session")
def filled(sqlite_platform: Platform) -> Platform:
    """The platform with what no clinic should hand over."""
    for name, study in DOCUMENTS.items():
        content, kind = KINDS[name]
        even = content + b" " * (len(content) % 2)
        file = study.file(
            "PDF",
            EncapsulatedDocument=even,
            MIMETypeOfEncapsulatedDocument=kind,
            DocumentTitle=PAGE[:60].decode(),
        )
        sqlite_platform.drop(NORTH, f"document-{study.study}", {"a.dcm": file})
    for name, study in PEOPLE.items():
        hostile = {
            "PatientName": NAMES[name],
            "StudyDescription": NAMES[name][:64],
            "SeriesDescription": NAMES[name][:64],
        }
        sqlite_platform.drop(NORTH, f"name-{study.study}", {"a.dcm": study.file("US", **hostile)})
    sqlite_platform.drop(NORTH, "large", {"a.dcm": bomb()})
    sqlite_platform.import_all()
    assert not any(
        "document" in path or "name" in path or "large" in path
        for path in sqlite_platform.importing.reasons(NORTH)
    )
    return sqlite_platform


FORMS = [
    ("/bulk/00420011", "application/pdf"), ("/bulk/00420011?accept=application/pdf", ""),
    ("/bulk/00420011", "application/octet-stream"), ("/bulk/00420011", OCTETS), ("/bulk/00420011", ""),
    ("/bulk/00420011", "text/html, */*;q=0.1"), ("/rendered", ""), ("", ""), ("/rendered", "image/png"),
    ("/thumbnail", ""), ("/frames/1", ""), ("/metadata", ""), ("", "application/dicom"),
]  # fmt: skip
GIVEN = re.compile(
    r"application/(pdf|octet-stream|dicom|dicom\+json|problem\+json)|image/(jpeg|png)|multipart/related;.*"
)


@pytest.mark.parametrize(("tail", "accept"), FORMS)
@pytest.mark.parametrize("name", KINDS)
def test_no_document_is_given_out_as_a_page(name: str, tail: str, accept: str, filled: Platform) -> None:
    answer = filled.dicom(f"{DOCUMENTS[name].path('PDF')}{tail}", accept=accept)
    assert answer.status in {200, 404, 406, 502}
    assert GIVEN.fullmatch(answer.header("Content-Type"))
    for header, value in HARMLESS.items():
        assert answer.header(header) == value
    assert not answer.header("X-Evil")
    if b"<script>" in answer.body and not answer.header("Content-Type").startswith(
        ("multipart", "application/dicom")
    ):
        assert answer.header("Content-Disposition") == "attachment"


@pytest.mark.parametrize(
    "accept",
    ["text/html", "text/xml", "application/xml", "image/svg+xml", "text/html, image/svg+xml", "text/*"],
)
def test_no_form_that_a_browser_runs_is_offered(accept: str, filled: Platform) -> None:
    for study in DOCUMENTS.values():
        for tail in ("/bulk/00420011", "", "/rendered", "/metadata"):
            assert filled.dicom(f"{study.path('PDF')}{tail}", accept=accept).status == 406


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_stays_a_text_in_json(name: str, filled: Platform) -> None:
    study = PEOPLE[name]
    for path in (
        f"/studies?StudyInstanceUID={study.study}",
        f"/studies/{study.study}/metadata",
        f"/studies/{study.study}/series",
    ):
        answer = filled.dicom(path)
        assert answer.status == 200
        assert answer.header("Content-Type") == "application/dicom+json"
        found = json.loads(answer.body)
        assert len(found) == 1
        assert "https://stranger" not in str(found[0].get("7FE00010"))
        assert not any("BulkDataURI" in value for value in found[0].values() if "stranger" in str(value))
        assert b"\x1b" not in answer.body


def test_hostile_names_are_in_no_log(filled: Platform) -> None:
    told = filled.site.nginx.log.read_text() + (Path(filled.folder) / "site" / "gateway.log").read_text()
    for word in ("alert(", "owned", "{{7*7}}", "\x1b"):
        assert word not in told


LARGE = [
    ("/rendered", ""), ("/rendered?viewport=64,64", "image/png"), ("/thumbnail", ""),
    ("/frames/1/rendered", ""), ("/frames/1", OCTETS), ("/frames/1", "application/octet-stream"),
    ("/frames/1", 'multipart/related; type="image/jls"'),
    ("", 'multipart/related; type="application/dicom"'),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
]  # fmt: skip


def megabytes(platform: Platform) -> int:
    """The most memory that Orthanc has ever had."""
    status = Path(f"/proc/{platform.orthanc.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    return int(found[1]) // 1024


@pytest.mark.parametrize(("tail", "accept"), LARGE)
def test_an_image_of_billions_of_pixels_is_not_decoded(tail: str, accept: str, filled: Platform) -> None:
    answer = filled.dicom(f"{BOMB.path()}{tail}", accept=accept)
    assert answer.status == 406
    assert b"too large to decode" in answer.body
    assert megabytes(filled) < 400


@pytest.mark.parametrize("level", [f"/studies/{BOMB.study}", f"/studies/{BOMB.study}/series/{BOMB.series()}"])
def test_nor_by_way_of_its_series_or_study(level: str, filled: Platform) -> None:
    for tail, accept in (
        ("/rendered", ""),
        ("/thumbnail", ""),
        ("", 'multipart/related; type="application/dicom"'),
    ):
        assert filled.dicom(level + tail, accept=accept).status == 406
    assert megabytes(filled) < 400


@pytest.mark.parametrize(
    ("tail", "accept"),
    [
        ("", "application/dicom; transfer-syntax=*"),
        ("/frames/1", f"{OCTETS}; transfer-syntax=*"),
        ("/metadata", ""),
    ],
)
def test_as_it_is_stored_it_can_be_had(tail: str, accept: str, filled: Platform) -> None:
    answer = filled.dicom(f"{BOMB.path()}{tail}", accept=accept)
    assert answer.status == 200
    assert megabytes(filled) < 400
