"""What the archive holds reaches the viewer: whole, in the form asked for, with our addresses only."""

from __future__ import annotations

import json
from email.parser import BytesParser
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from pydicom import dcmread

from gateway.archive.upstream import RefusedByArchive
from support.corpus import instance_bytes, to_bytes
from support.gateway import CLIP, DOCUMENT, MINE, NORTH, PUBLIC, UNOWNED, Sample

if TYPE_CHECKING:
    from email.message import Message

    from werkzeug.test import TestResponse

    from support.gateway import World

OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


def parts(answer: TestResponse) -> list[Message]:
    assert answer.status_code == 200, answer.text
    assert answer.content_type.startswith("multipart/related;")
    message = BytesParser().parsebytes(f"Content-Type: {answer.content_type}\r\n\r\n".encode() + answer.data)
    found = message.get_payload()
    assert isinstance(found, list)
    return found  # type: ignore[return-value]


def content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def payloads(answer: TestResponse) -> list[bytes]:
    """The parts' bytes; `email` takes line ends for its own, so they are cut out by hand."""
    boundary = answer.content_type.partition("boundary=")[2].strip('"').encode()
    pieces = answer.data.split(b"--" + boundary)
    assert pieces[-1].strip() == b"--"
    return [piece.partition(b"\r\n\r\n")[2][:-2] for piece in pieces[1:-1]]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (MINE.path(), 1),
        (f"/studies/{MINE.study}/series/{MINE.series('SR')}", 2),
        (f"/studies/{MINE.study}", 4),
    ],
)
def test_instances_arrive_byte_for_byte(path: str, number: int, both: World) -> None:
    found = payloads(both.get(path))
    assert len(found) == number
    assert set(found) <= set(MINE.files())


def test_one_instance_may_come_without_an_envelope(both: World) -> None:
    answer = both.get(MINE.path(), Accept="application/dicom; transfer-syntax=*")
    assert (answer.status_code, answer.content_type) == (200, "application/dicom")
    assert answer.data == MINE.file("CT")


def test_frames_are_the_pixels(both: World) -> None:
    pixels = dcmread(BytesIO(CLIP.file("US"))).PixelData
    size = len(pixels) // 3
    for number in (1, 2, 3):
        (frame,) = payloads(both.get(f"{CLIP.path()}/frames/{number}", Accept=OCTETS))
        assert frame[:size] == pixels[(number - 1) * size : number * size]
    found = payloads(both.get(f"{CLIP.path()}/frames/1,3", Accept=OCTETS))
    assert [each[:size] for each in found] == [pixels[:size], pixels[2 * size :]]
    assert payloads(both.get(f"{CLIP.path()}/frames/1%2C3", Accept=OCTETS)) == found


def test_each_frame_says_its_transfer_syntax(both: World) -> None:
    (part,) = parts(both.get(f"{MINE.path()}/frames/1", Accept=OCTETS))
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_param("transfer-syntax") == "1.2.840.10008.1.2.1"


def test_a_frame_may_come_without_an_envelope(both: World) -> None:
    answer = both.get(f"{MINE.path()}/frames/1", Accept="application/octet-stream; transfer-syntax=*")
    assert answer.content_type == "application/octet-stream"
    assert answer.data == dcmread(BytesIO(MINE.file("CT"))).PixelData


class LongDocument(Sample):
    """Long enough for every archive to serve it apart from the metadata."""

    def file(self, modality: str, number: int = 1) -> bytes:
        ds = dcmread(BytesIO(super().file(modality, number)))
        ds.EncapsulatedDocument = PDF
        ds.EncapsulatedDocumentLength = len(PDF)
        return to_bytes(ds)


PDF = b"%PDF-1.4\n" + b"\r\n--not-a-boundary\r\n" * 20_000 + b"%%EOF\n"


def test_an_encapsulated_pdf_comes_as_a_pdf_that_may_do_nothing(any_archive_world: World) -> None:
    world = any_archive_world
    document = LongDocument("long document", NORTH, ("PDF",), 1)
    world.file(document)
    (found,) = world.get(f"{document.path()}/metadata").get_json(force=True)
    path = found["00420011"]["BulkDataURI"].removeprefix(f"{PUBLIC}/dicom-web")
    answer = world.get(f"{path}?accept=application/pdf")
    assert answer.content_type == "application/pdf"
    assert answer.data.rstrip(b"\0") == PDF
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert (
        payloads(world.get(path, Accept='multipart/related; type="application/octet-stream"'))[0][: len(PDF)]
        == PDF
    )
    assert world.get(f"{MINE.path()}/bulk/7fe00010", Accept="application/pdf").status_code == 406


def test_bulk_values_lie_where_the_metadata_says(both: World) -> None:
    found = both.get(f"{MINE.path()}/metadata").get_json(force=True)
    uri = found[0]["7FE00010"]["BulkDataURI"]
    assert uri == f"{PUBLIC}/dicom-web{MINE.path()}/bulk/7fe00010"
    (pixels,) = payloads(both.get(uri.removeprefix(f"{PUBLIC}/dicom-web")))
    assert pixels == dcmread(BytesIO(MINE.file("CT"))).PixelData


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (f"/studies/{MINE.study}/metadata", 4),
        (f"/studies/{MINE.study}/series/{MINE.series()}/metadata", 2),
        (f"{MINE.path()}/metadata", 1),
        (f"/studies/{MINE.study}/series", 2),
        (f"/studies/{MINE.study}/instances", 4),
        (f"/studies/{MINE.study}/series/{MINE.series()}/instances", 2),
        (f"/series?StudyInstanceUID={MINE.study}", 2),
        (f"/instances?StudyInstanceUID={MINE.study}", 4),
    ],
)
def test_lists_hold_all_there_is_and_no_address_of_the_archive(path: str, number: int, both: World) -> None:
    answer = both.get(path)
    assert answer.content_type == "application/dicom+json"
    found = answer.get_json(force=True)
    assert len(found) == number
    assert {each["0020000D"]["Value"][0] for each in found} == {MINE.study}
    assert both.archive.settings.archive_url.partition("//")[2].partition("/")[0] not in answer.text
    for each in found:
        url = each.get("00081190", {}).get("Value", [PUBLIC])[0]
        assert url == PUBLIC or url.startswith(f"{PUBLIC}/dicom-web/studies/{MINE.study}/series/")


def test_no_part_of_an_answer_names_the_archive(both: World) -> None:
    host = both.archive.settings.archive_url.partition("//")[2].partition("/")[0].encode()
    for path in (f"{MINE.path()}/frames/1", f"{MINE.path()}/bulk/7fe00010", MINE.path()):
        assert host not in both.get(path).data


@pytest.mark.parametrize(
    "level", [f"/studies/{MINE.study}", MINE.path().partition("/instances")[0], MINE.path()]
)
def test_a_thumbnail_is_a_small_picture(level: str, both: World) -> None:
    answer = both.get(f"{level}/thumbnail?accept=image/jpeg")
    assert answer.content_type == "image/jpeg"
    with Image.open(BytesIO(answer.data)) as picture:
        assert max(picture.size) <= 128
    answer = both.get(f"{level}/thumbnail?viewport=40,50", Accept="image/png")
    assert answer.content_type == "image/png"
    with Image.open(BytesIO(answer.data)) as picture:
        assert picture.width <= 40


@pytest.mark.parametrize("level", [f"/studies/{MINE.study}", MINE.path().partition("/instances")[0]])
def test_a_study_or_series_is_rendered_as_one_of_its_images(level: str, both: World) -> None:
    answer = both.get(f"{level}/rendered?viewport=256%2C256", Accept="image/jpeg")
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")


@pytest.mark.parametrize("path", [f"{MINE.path()}/rendered", f"{CLIP.path()}/frames/2/rendered"])
def test_a_rendered_frame_is_a_picture_of_the_size_asked_for(path: str, both: World) -> None:
    for query, accept, kind in (
        ("", "", "image/jpeg"),
        ("?window=1000,2000,LINEAR-Exact", "image/*", "image/jpeg"),
        ("?window=1000,2000,linear&quality=50&annotation=patient", "image/*", "image/jpeg"),
        ("?viewport=20,30", "text/html;q=0.1, image/png;q=0.9", "image/png"),
    ):
        answer = both.get(path + query, Accept=accept)
        assert (answer.status_code, answer.content_type) == (200, kind), answer.text
        with Image.open(BytesIO(answer.data)) as picture:
            assert picture.width == (20 if "viewport" in query else 32)


@pytest.mark.parametrize("modalities", [("SR", "PDF", "CT"), ("CT", "PDF", "SR")], ids="-".join)
def test_a_study_is_rendered_as_a_series_that_has_pixels(
    modalities: tuple[str, ...], any_archive_world: World
) -> None:
    """Archives list series in an order of their own."""
    world = any_archive_world
    sample = Sample("-".join(modalities), NORTH, modalities, 1)
    world.file(sample)
    for of in ("rendered", "thumbnail"):
        answer = world.get(f"/studies/{sample.study}/{of}")
        assert (answer.status_code, answer.content_type) == (200, "image/jpeg"), answer.text
    report = f"/studies/{sample.study}/series/{sample.series('SR')}/rendered"
    assert world.get(report).status_code == 406


def test_a_picture_of_a_study_takes_two_questions_of_the_archive(world: World) -> None:
    asked: list[str] = []
    upstream = world.app.extensions["gateway"].upstream
    ask = upstream.open

    def noted(path: str, *arguments: str) -> Any:
        asked.append(path.rpartition("/")[2])
        return ask(path, *arguments)

    upstream.open = noted
    assert world.get(f"/studies/{CLIP.study}/thumbnail").status_code == 200
    # The series and its middle image; how large that is; the picture.
    assert asked == ["series", "instances", "instances", "rendered"]


@pytest.mark.parametrize("of", ["rendered", "thumbnail"])
def test_a_picture_of_a_frame_that_is_not_there_is_404(of: str, both: World) -> None:
    for path in (f"{CLIP.path()}/frames/4", f"{MINE.path()}/frames/2", f"{MINE.path('SR')}/frames/1"):
        assert both.get(f"{path}/{of}").status_code == 404, path
    assert both.get(f"{CLIP.path()}/frames/3/{of}").status_code == 200


RENDERING = [
    "viewport=0,10", "viewport=5000,10", "viewport=99999,99999", "viewport=10",
    "viewport=-1,10", "viewport=a,b",
    "viewport=10,10,1", "viewport=10,10,0,0,1,1,1", "viewport=10,10&viewport=10,10", "viewport=1e3,10",
    "viewport=10,10%00", "window=1", "window=1,2", "window=1,2,LUT", "window=1,-2,linear",
    "window=nan,1,linear", "window=1,2,l%C4%B1near", "window=1,2,%C5%BFigmoid",
    "quality=0", "quality=101", "quality=high", "quality=", "window=1,2,linear%26viewport=99999,99999",
]  # fmt: skip


@pytest.mark.parametrize("query", RENDERING)
def test_a_malformed_rendering_is_400_and_never_reaches_the_archive(query: str, still_world: World) -> None:
    answer = still_world.get(f"{MINE.path()}/rendered?{query}")
    assert answer.status_code == 400
    if query.startswith("viewport"):
        assert still_world.get(f"{MINE.path()}/thumbnail?{query}").status_code == 400


ACCEPTED = [
    ("", "metadata"), (" ,;", "metadata"), ("*/*", "metadata"), ("application/json", "metadata"),
    ("application/dicom+json", "metadata"),
    ("application/dicom+xml, application/dicom+json;q=0.5", "metadata"),
    ('multipart/related; type="application/dicom"', ""), ("multipart/related; type=application/dicom", ""),
    ('multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.1', ""),
    ("multipart/related", ""), ("multipart/*", ""), ("*/*;q=0.1", ""), ("application/dicom", ""),
    ("multipart/related; type=application/octet-stream; transfer-syntax=*", "frames/1"),
    ('multipart/related; type="application/octet-stream"; transfer-syntax="*"', "frames/1"),
    ("multipart/related; type=application/octet-stream", "frames/1"),
    ('multipart/related; type="*/*"', "frames/1"),
    ("image/jls;q=0, multipart/related; type=application/octet-stream;q=0.3", "frames/1"),
    ("multipart/related; type=application/octet-stream", "bulk/7fe00010"),
    ("application/octet-stream", "bulk/7fe00010"), ("*/*", "bulk/7fe00010"),
    ("image/jpeg", "rendered"), ("image/png", "thumbnail"), ("text/plain, */*;q=0.1", "rendered"),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "of"), ACCEPTED)
def test_what_viewers_accept_is_served(accept: str, of: str, both: World) -> None:
    path = f"{MINE.path()}/{of}".rstrip("/")
    assert both.get(path, Accept=accept).status_code == 200
    if accept:
        quoted = accept.replace("+", "%2B").replace(" ", "%20").replace('"', "%22")
        assert both.get(f"{path}?accept={quoted}", Accept="text/nothing").status_code == 200


NOT_ACCEPTED = [
    ("text/html", "metadata"), ("application/dicom+xml", "metadata"), ("application/json;q=0", "metadata"),
    ('multipart/related; type="application/dicom+xml"', "metadata"), ("application/zip", ""),
    ('multipart/related; type="application/octet-stream"', ""), ("text/html", "rendered"),
    ("image/svg+xml", "rendered"), ("image/jpeg; q=0", "thumbnail"), ("application/pdf", "bulk/7fe00010"),
    ("text/html", "bulk/00420011"), ("image/svg+xml", "frames/1"),
    ('multipart/related; type="text/html"', "frames/1"),
    ("multipart/related; type=application/octet-stream; transfer-syntax=x", "frames/1"),
    ("multipart/related; type=application/octet-stream; transfer-syntax=1.2\\1.3", "frames/1"),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "of"), NOT_ACCEPTED)
def test_what_is_not_offered_is_406_and_says_what_is(accept: str, of: str, still_world: World) -> None:
    answer = still_world.get(f"{MINE.path()}/{of}".rstrip("/"), Accept=accept)
    assert answer.status_code == 406
    assert answer.get_json(force=True)["detail"].startswith("Offered: ")


@pytest.mark.parametrize("accept", ['"', 'a/b; c="', '*/*; c="\\"', "a/b " * 600, "a/b," * 40 + "*/*"])
def test_an_accept_header_that_cannot_be_parsed_is_400(accept: str, still_world: World) -> None:
    assert still_world.get("/studies", Accept=accept).status_code == 400


JP2, STORED = 'multipart/related; type="image/jp2"', OCTETS
REFUSED = [
    ("frames/99", OCTETS, 404), ("frames/99", "image/jls", 404), ("frames/1,99", JP2, 404),
    ("frames/1", JP2, 406), ("frames/1", f"{JP2}; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
    ("frames/1", 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.3', 406),
    ("frames/1", "image/jxl, image/jphc, image/jpx", 406),
    ("", "application/dicom; transfer-syntax=1.2.3", 406),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
    ("frames/1", f"{JP2}, {STORED}; q=0.1", 200), ("frames/1", f"image/jxl, {JP2}; q=0.5, */*; q=0.1", 200),
    ("", "application/dicom; transfer-syntax=1.2.3, application/dicom; q=0.2", 200),
]  # fmt: skip


@pytest.mark.parametrize(("of", "accept", "status"), REFUSED)
def test_what_is_not_there_is_404_and_what_cannot_be_made_406(
    of: str, accept: str, status: int, still_orthanc_world: World
) -> None:
    answer = still_orthanc_world.get(f"{MINE.path()}/{of}".rstrip("/"), Accept=accept)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("accept", ["", OCTETS, "image/jpeg", JP2, f"{JP2}, */*; q=0.1"])
def test_what_has_no_pixels_has_no_frames(accept: str, both: World) -> None:
    for path in (MINE.path("SR"), DOCUMENT.path()):
        assert both.get(f"{path}/frames/1", Accept=accept).status_code == 404


def test_searches_within_a_study_are_passed_on_and_checked(both: World) -> None:
    base = f"/studies/{MINE.study}"
    for query, number in (
        ("Modality=SR", 1),
        ("00080060=CT", 1),
        (f"SeriesInstanceUID={MINE.series()}", 1),
        (f"SeriesInstanceUID={MINE.series()},{MINE.series('SR')}", 2),
        (f"SeriesInstanceUID={MINE.series()}%5C{MINE.series('SR')}", 2),
        (f"StudyInstanceUID={MINE.study}", 2),
        ("limit=1", 1),
        ("limit=1&offset=1", 1),
        ("offset=2", 0),
        ("includefield=0008103E,00080080&SeriesDescription=*", 2),
        ("SeriesNumber=*&SeriesDate=*", 2),
        ("includefield=all&fuzzymatching=true", 2),
    ):
        answer = both.get(f"{base}/series?{query}")
        assert (answer.status_code, len(answer.get_json(force=True))) == (200, number), query
    answer = both.get(f"{base}/series/{MINE.series()}/instances?SOPInstanceUID={MINE.instance(number=2)}")
    (found,) = answer.get_json(force=True)
    assert found["00081190"]["Value"] == [f"{PUBLIC}/dicom-web{MINE.path(number=2)}"]
    assert "PatientName" in both.get(f"{base}/series?PatientName=x&_method=DELETE").headers["Warning"]
    for query in (
        "limit=x",
        "SeriesInstanceUID=x",
        "Modality=" + "x" * 65,
        "Modality=a%5Cb",
        "Modality=a&Modality=b",
        "SeriesNumber=1*",
        "SeriesNumber=?",
    ):
        assert both.get(f"{base}/series?{query}").status_code == 400, query


@pytest.mark.parametrize(
    ("query", "number"),
    [("InstanceNumber=*", 4), ("00280010=**", 4), ("InstanceNumber=2", 2), ("Rows=32", 2), ("Rows=0", 0),
     ("Rows=-1", 0), ("Columns=99999", 0), ("InstanceNumber=999999999999", 0), ("Rows=%2B33", 0)],
)  # fmt: skip
def test_numbers_are_searched_for_as_they_are(query: str, number: int, both: World) -> None:
    answer = both.get(f"/studies/{MINE.study}/instances?{query}")
    assert (answer.status_code, len(answer.get_json(force=True))) == (200, number), answer.text
    if "*" in query:
        assert any("00200013" in each for each in answer.get_json(force=True))


def test_a_search_that_the_archive_refuses_is_a_bad_request(world: World) -> None:
    def refuse(*_: str) -> None:
        raise RefusedByArchive

    world.app.extensions["gateway"].upstream.open = refuse
    for level in ("series", "instances"):
        answer = world.get(f"/studies/{MINE.study}/{level}?Modality=CT")
        assert (answer.status_code, "form" in answer.json["detail"]) == (400, False)


def test_a_warning_has_room_in_every_proxys_header(still_world: World) -> None:
    """An attribute of 8 characters has a keyword of 64, and a name may have hundreds of them."""
    for names in (
        [".".join(["0070030B"] * 440)],
        [f"0070030B.{number:08X}" for number in range(0x00080000, 0x00080063)],
    ):
        query = "&".join(f"{name}=x" for name in names)
        for path in ("/studies", f"/studies/{MINE.study}/series"):
            answer = still_world.get(f"{path}?{query}")
            assert answer.status_code == 200
            assert len(answer.headers["Warning"]) < 1200
            assert answer.headers["Warning"].endswith('..."')


def test_head_tells_what_get_would(both: World) -> None:
    for path in (
        "/studies",
        f"/studies/{MINE.study}/metadata",
        f"{MINE.path()}/frames/1",
        f"/studies/{UNOWNED.study}",
    ):
        head, get = both.get(path, method="HEAD"), both.get(path)
        assert head.data == b""
        assert (head.status_code, head.content_type.partition("boundary")[0]) == (
            get.status_code,
            get.content_type.partition("boundary")[0],
        )


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US"])
@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.5",
    ],
)
def test_compressed_frames_come_as_they_are_stored(
    modality: str, syntax: str, any_archive_world: World
) -> None:
    world = any_archive_world
    sample = Sample(f"{modality} {syntax}", NORTH, (modality,), 1, (("transfer_syntax", syntax),))
    world.file(sample)
    (part,) = parts(world.get(f"{sample.path()}/frames/1"))
    assert part.get_param("transfer-syntax") in {syntax, "1.2.840.10008.1.2.1"}
    # Orthanc 1.10 cannot decode JPEG 2000.
    assert world.get(f"{sample.path()}/rendered").status_code in {200, 406 if syntax.endswith(".90") else 200}
    assert len(payloads(world.get(sample.path()))[0]) == len(
        instance_bytes(modality, **_uids(sample), transfer_syntax=syntax)
    )


def _uids(sample: Sample) -> dict[str, str]:
    return {
        "study_uid": sample.study,
        "series_uid": sample.series(),
        "sop_instance_uid": sample.instance(),
    }


def test_metadata_is_json_that_parses(both: World) -> None:
    assert json.loads(both.get(f"/studies/{MINE.study}/metadata").data)
