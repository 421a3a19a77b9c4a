"""WADO-RS: instances, metadata, frames and bulk values."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from demo.archive.media import parse_media_type
from support.archives import Study, Web, values
from support.corpus import ENCAPSULATED_SYNTAXES, make_instance, to_bytes

if TYPE_CHECKING:
    import requests

OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
AS_STORED = (("application/dicom", "*"),)
OCTETS = (("application/octet-stream", "*"),)


def split(answer: requests.Response) -> list[tuple[str, bytes]]:
    """The parts of a multipart answer: Content-Type and bytes."""
    media_type, options = parse_media_type(answer.headers["Content-Type"])
    assert (answer.status_code, media_type) == (200, "multipart/related"), answer.text
    delimiter = b"\r\n--" + options["boundary"].encode()
    parts = (b"\r\n" + answer.content).split(delimiter)[1:-1]
    split_parts = [part.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for part in parts]
    return [(content_type(head), body) for head, body in split_parts]


def content_type(head: bytes) -> str:
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    return lines["Content-Type"]


def test_series_and_study_are_all_of_their_instances(archive: Web, study: Study) -> None:
    files = [study.file(number=number) for number in (1, 2, 3)]
    archive.store(*files)
    for found in (
        archive.client.retrieve_series(study.uid, study.series, media_types=AS_STORED),
        archive.client.retrieve_study(study.uid, media_types=AS_STORED),
    ):
        assert sorted(each.SOPInstanceUID for each in found) == [study.sop(n) for n in (1, 2, 3)]
    one = archive.client.retrieve_instance(study.uid, study.series, study.sop(2), media_types=AS_STORED)
    assert one.PixelData == dcmread(BytesIO(files[1])).PixelData


def test_another_transfer_syntax_is_not_acceptable(embedded: Web, study: Study) -> None:
    embedded.store(study.file())
    for accept, status in (
        (f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}", 200),
        (f"application/dicom; transfer-syntax={JPEGBaseline8Bit}", 406),
        (f'multipart/related; type="application/dicom"; transfer-syntax={JPEGBaseline8Bit}', 406),
        ("image/png", 406),
        ("text/html, */*;q=0.1", 200),
        ("*/*;q=0", 406),
    ):
        assert embedded.get(study.path(1), accept).status_code == status, accept


@pytest.mark.parametrize("path", ["/metadata", ""])
def test_what_is_not_there_is_404(archive: Web, study: Study, path: str) -> None:
    archive.store(study.file())
    other = Study()
    for missing in (
        f"/studies/{other.uid}",
        f"/studies/{study.uid}/series/{other.series}",
        study.path(2),
        f"/studies/{other.uid}/series/{study.series}/instances/{study.sop(1)}",
    ):
        assert archive.get(missing + path).status_code == 404, missing


def test_metadata_says_what_the_file_says(archive: Web, study: Study) -> None:
    original = dcmread(BytesIO(study.file(patient="cyrillic")))
    archive.store(study.file(patient="cyrillic"), study.file(number=2, patient="cyrillic"))
    (found,) = archive.found(f"{study.path(1)}/metadata")
    told = Dataset.from_json(found, lambda tag, vr, uri: b"")  # noqa: ARG005
    for element in original:
        if element.keyword not in {"PixelData", "SpecificCharacterSet"} and element.tag.element != 0:
            assert told[element.tag].value == element.value, element.keyword
    for path in (study.path(), f"/studies/{study.uid}"):
        assert len(archive.found(f"{path}/metadata")) == 2


def test_metadata_has_no_pixel_data_but_its_url(archive: Web, study: Study) -> None:
    archive.store(study.file())
    (found,) = archive.found(f"{study.path(1)}/metadata")
    url = found["7FE00010"]["BulkDataURI"]
    assert url == f"{archive.url}{study.path(1)}/bulk/7fe00010"
    answer = archive.session.get(url, headers={"Accept": OHIF_FRAMES}, timeout=10)
    assert split(answer)[0][1] == dcmread(BytesIO(study.file())).PixelData


def test_urls_follow_the_host_header_only(embedded: Web, study: Study) -> None:
    embedded.store(study.file())
    answer = embedded.session.get(
        f"{embedded.url}{study.path(1)}/metadata",
        headers={
            "Host": "pacs.example",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "https",
            "Forwarded": "host=evil.example",
        },
        timeout=10,
    )
    url = answer.json()[0]["7FE00010"]["BulkDataURI"]
    assert url.startswith("http://pacs.example/dicom-web/studies/")


NATIVE = {
    ImplicitVRLittleEndian: ExplicitVRLittleEndian,
    ExplicitVRLittleEndian: ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian: ExplicitVRLittleEndian,
    ExplicitVRBigEndian: ExplicitVRBigEndian,
}


@pytest.mark.parametrize(("stored", "told"), NATIVE.items())
def test_native_frames_are_ranges_of_the_file(embedded: Web, study: Study, stored: str, told: str) -> None:
    file = study.file("US", transfer_syntax=stored, frames=5)
    embedded.store(file)
    parts = split(embedded.get(f"{study.path(1)}/frames/2,5,2", OHIF_FRAMES))
    pixels = dcmread(BytesIO(file)).PixelData
    size = len(pixels) // 5
    assert [kind for kind, _ in parts] == [f"application/octet-stream; transfer-syntax={told}"] * 3
    assert [body for _, body in parts] == [pixels[size * n : size * (n + 1)] for n in (1, 4, 1)]


@pytest.mark.parametrize("syntax", ENCAPSULATED_SYNTAXES)
def test_encapsulated_frames_come_as_they_are(archive: Web, study: Study, syntax: str) -> None:
    file = study.file("US", transfer_syntax=syntax, frames=3)
    archive.store(file)
    frames = list(generate_frames(dcmread(BytesIO(file)).PixelData, number_of_frames=3))
    answer = archive.get(f"{study.path(1)}/frames/3,1", OHIF_FRAMES)
    if archive.kind == "orthanc" and syntax == RLELossless and not answer.ok:
        pytest.skip("Orthanc 1.10 cannot serve RLE without another plugin")
    parts = split(answer)
    assert [body.rstrip(b"\0") for _, body in parts] == [frames[n].rstrip(b"\0") for n in (2, 0)]
    assert all(parse_media_type(kind)[1]["transfer-syntax"] == syntax for kind, _ in parts)


def test_dicomweb_client_retrieves_frames(archive: Web, study: Study) -> None:
    archive.store(study.file())
    (frame,) = archive.client.retrieve_instance_frames(
        study.uid, study.series, study.sop(), [1], media_types=OCTETS
    )
    assert frame == dcmread(BytesIO(study.file())).PixelData


def test_single_bit_frames_are_cut_out_between_bytes(embedded: Web, study: Study) -> None:
    dataset = make_instance(study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 3, 3, 3
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    frames = [0b101010101, 0b000111000, 0b110000011]
    packed = frames[0] | frames[1] << 9 | frames[2] << 18
    dataset.PixelData = packed.to_bytes(4, "little")
    embedded.store(to_bytes(dataset))
    parts = split(embedded.get(f"{study.path(1)}/frames/1,2,3", OHIF_FRAMES))
    assert [int.from_bytes(body, "little") for _, body in parts] == frames


def test_one_frame_goes_without_multipart_too(embedded: Web, study: Study) -> None:
    embedded.store(study.file("US", transfer_syntax=JPEG2000Lossless, frames=2))
    for accept, kind in (
        ("image/jp2", "image/jp2"),
        ("application/octet-stream", "application/octet-stream"),
    ):
        answer = embedded.get(f"{study.path(1)}/frames/2", accept)
        assert answer.headers["Content-Type"] == f"{kind}; transfer-syntax={JPEG2000Lossless}"
    assert embedded.get(f"{study.path(1)}/frames/1,2", "image/jp2").status_code == 406
    assert embedded.get(f"{study.path(1)}/frames/1", "image/jpeg").status_code == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("x", 400), ("1,", 400), ("-1", 400), ("2", 404), ("1,2", 404), ("9" * 9, 400)],
)
def test_frames_that_are_not_there(embedded: Web, study: Study, frames: str, status: int) -> None:
    embedded.store(study.file())
    assert embedded.get(f"{study.path(1)}/frames/{frames}").status_code == status


def test_a_video_is_one_stream_however_it_is_cut(embedded: Web, study: Study) -> None:
    dataset = dcmread(BytesIO(study.file("US", transfer_syntax=JPEGBaseline8Bit)))
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.NumberOfFrames = 25
    pieces = [bytes([number]) * 2000 for number in range(3)]
    dataset.PixelData = encapsulate(pieces, has_bot=False)
    embedded.store(to_bytes(dataset))
    for path in ("bulk/7fe00010", "frames/1"):
        answer = embedded.get(f"{study.path(1)}/{path}", OHIF_FRAMES)
        assert [content for _, content in split(answer)] == [b"".join(pieces)]


def test_an_encapsulated_pdf_is_a_bulk_value(embedded: Web, study: Study) -> None:
    dataset = dcmread(BytesIO(study.file("PDF")))
    dataset.EncapsulatedDocument = b"%PDF-1.4\n" + bytes(3001) + b"%%EOF\n"
    embedded.store(to_bytes(dataset))
    (found,) = embedded.found(f"{study.path(1)}/metadata")
    url = found["00420011"]["BulkDataURI"].removeprefix(embedded.url)
    stored = dcmread(BytesIO(embedded.get(study.path(1), "application/dicom").content)).EncapsulatedDocument
    for accept in ("application/pdf", None, "application/octet-stream"):
        assert embedded.get(url, accept).content == stored
    assert embedded.get(url, accept="application/pdf").headers["Content-Type"] == "application/pdf"
    assert embedded.get(url, "text/html", accept="application/pdf").status_code == 200
    assert split(embedded.get(url, OHIF_FRAMES)) == [("application/octet-stream", stored)]


def test_bulk_values_inside_of_sequences(archive: Web, study: Study) -> None:
    dataset = make_instance(study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    items = [Dataset(), Dataset()]
    for number, item in enumerate(items):
        item.add_new(0x54001010, "OW", bytes([number]) * 2000)
    dataset.add_new(0x54000100, "SQ", Sequence(items))
    archive.store(to_bytes(dataset))
    (found,) = archive.found(f"{study.path(1)}/metadata")
    urls = [item["54001010"]["BulkDataURI"] for item in values(found, "54000100")]
    for number, url in enumerate(urls):
        answer = archive.session.get(url, headers={"Accept": OHIF_FRAMES}, timeout=10)
        assert split(answer)[0][1] == bytes([number]) * 2000


@pytest.mark.parametrize(
    "path",
    [
        "00100010",
        "7fe0001",
        "7fe00010/1/00100010",
        "54000100/0/54001010",
        "00081140/1/00081155",
        "x",
        "7fe00010/",
    ],
)
def test_there_are_no_other_bulk_values(embedded: Web, study: Study, path: str) -> None:
    embedded.store(study.file())
    assert embedded.get(f"{study.path(1)}/bulk/{path}").status_code == 404


def test_values_that_json_cannot_carry_are_left_out(embedded: Web, study: Study) -> None:
    dataset = make_instance(study_uid=study.uid, series_uid=study.series, sop_instance_uid=study.sop())
    dataset.add_new(0x00189073, "FD", float("nan"))
    dataset.add_new(0x00181316, "DS", "1.5")
    file = to_bytes(dataset).replace(b"DS\x04\x001.5 ", b"DS\x04\x00abcd")
    embedded.store(file)
    (found,) = embedded.found(f"{study.path(1)}/metadata")
    assert "00189073" not in found
    assert "00181316" not in found
    assert values(found, "0020000D") == [study.uid]


PYDICOM_FILES = [
    "CT_small.dcm",
    "rtplan.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "liver_1frame.dcm",
    "JPGExtended.dcm",
    "reportsi.dcm",
]


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_files_of_pydicom_are_served_as_orthanc_serves_them(embedded: Web, orthanc: Any, name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    with open(path, "rb") as file:  # noqa: PTH123
        content = file.read()
    dataset = dcmread(BytesIO(content))
    url = f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    url += f"/instances/{dataset.SOPInstanceUID}"
    with Web("orthanc", orthanc.dicomweb_url, (orthanc.username, orthanc.password)) as real:
        answers = []
        for web in (embedded, real):
            assert web.store(content).status_code == 200
            (metadata,) = web.found(f"{url}/metadata")
            answers.append({tag: element.get("vr") for tag, element in metadata.items() if tag[:4] != "0002"})
    ours, theirs = answers
    public = {tag for tag in theirs if not int(tag[3], 16) % 2}
    assert public - ours.keys() <= {"00080005"}
