"""All studies of an archive, page by page: over QIDO-RS, or from Orthanc's REST root where it answers."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.wrappers import Request, Response

from pacs.archive import ArchiveUnavailableError, ListedStudy, listing
from pacs.archive.dicomweb import DicomWebArchive
from pacs.ids import Uid
from pacs.settings import ArchiveSettings
from support.gateway import running

if TYPE_CHECKING:
    from collections.abc import Iterator


def entry(uid: str = "1.2.3", **main: str) -> dict[str, Any]:
    """One of /studies?expand, as Orthanc 1.12.7 answers."""
    return {
        "ID": "00224fc2-dc963f7f-a2a37463-a6f663bc-700c7301",
        "IsStable": True,
        "MainDicomTags": {"AccessionNumber": "A1", "StudyInstanceUID": uid, **main},
        "PatientMainDicomTags": {"PatientID": "P1", "PatientName": "Sample^Aurora"},
        "RequestedTags": {
            "ModalitiesInStudy": "CT\\MR",
            "NumberOfStudyRelatedInstances": "12",
            "NumberOfStudyRelatedSeries": "2",
        },
        "Series": ["225151ae-518cf8af-355500ab-10825fe7-b85a8352"],
        "Type": "Study",
    }


def parsed(**main: str) -> ListedStudy:
    found = listing.parse([entry(**main)])
    assert found is not None
    assert found[0] is not None
    return found[0]


def test_what_orthanc_lists_is_what_it_answers_to_a_search() -> None:
    study = parsed(
        StudyDescription="",
        ReferringPhysicianName="Dr^A\\Dr^B",
        InstitutionName="a\\b",
        TimezoneOffsetFromUTC="-0500",
    )
    assert (study.study_uid, study.modalities, study.series_count, study.instance_count) == (
        "1.2.3",
        ["CT", "MR"],
        2,
        12,
    )
    assert study.dicom_json == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080050": {"vr": "SH", "Value": ["A1"]},
        "00080061": {"vr": "CS", "Value": ["CT", "MR"]},
        "00080080": {"vr": "LO", "Value": ["a", "b"]},
        "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Dr^A"}, {"Alphabetic": "Dr^B"}]},
        "00080201": {"vr": "SH", "Value": ["-0500"]},
        "00081030": {"vr": "LO"},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Sample^Aurora"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [12]},
    }


def test_names_in_other_scripts_keep_their_groups() -> None:
    study = parsed(ReferringPhysicianName="Mihon^Aki=見本^秋=みほん^あき=more")
    assert study.person_name("00080090") == ("Mihon^Aki", "見本^秋", "みほん^あき")


def test_a_value_has_no_padding_as_in_a_search() -> None:
    study = parsed(StudyID="S1 ", ReferringPhysicianName="Dr^A \\ Dr^B", AccessionNumber=" ")
    assert study.text("00200010") == "S1"
    assert study.dicom_json["00080090"]["Value"] == [{"Alphabetic": "Dr^A"}, {"Alphabetic": "Dr^B"}]
    assert study.dicom_json["00080050"] == {"vr": "SH"}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        "x",
        [None],
        [{}],
        [[]],
        ["00224fc2-dc963f7f-a2a37463-a6f663bc-700c7301"],
        [entry(), {**entry(), "MainDicomTags": None}],
        [entry(), {**entry(), "RequestedTags": "CT"}],
    ],
)
def test_anything_else_is_no_list_of_orthancs(answer: Any) -> None:
    assert listing.parse(answer) is None


def test_one_study_without_counts_spoils_no_other() -> None:
    uncounted = [
        {name: part for name, part in entry().items() if name != "RequestedTags"},
        *(
            {**entry(), "RequestedTags": {**entry()["RequestedTags"], "NumberOfStudyRelatedSeries": nonsense}}
            for nonsense in (None, ["2"], "", "-2", "x", "2" * 8, "2" * 5000)
        ),
    ]
    found = listing.parse([entry("1.2.4"), *uncounted])
    assert found is not None
    assert [(study.study_uid, study.series_count) for study in found if study] == [
        ("1.2.4", 2),
        *[("1.2.3", 0)] * len(uncounted),
    ]


@pytest.mark.parametrize("uid", ["", "x", "1.2/../3", "1" * 65])
def test_a_study_without_a_uid_is_left_out(uid: str) -> None:
    assert listing.parse([entry(uid)]) == [None]


@pytest.mark.parametrize(
    "tags",
    [
        {"00201206": {"Value": ["-1"]}, "00201208": {"Value": [None]}, "00080061": {"Value": [1, None, ""]}},
        {"00201206": {"Value": {}}, "00201208": {"Value": [[]]}, "00080061": {"Value": "CT"}},
        {"00201206": {}, "00201208": {"Value": [1.5]}},
        {},
    ],
)
def test_counts_in_any_other_shape_are_not_told(tags: dict[str, Any]) -> None:
    study = ListedStudy(parsed().study_uid, tags)
    assert (study.modalities, study.series_count, study.instance_count) == ([], 0, 0)


def qido(uid: str) -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}}


@contextmanager
def archive(rest: Any, search: Any) -> Iterator[DicomWebArchive]:
    """One that answers `rest` to /studies and `search` to QIDO-RS: a status, a text, or entries in pages.

    Or what a function says of the request's query.
    """

    @Request.application
    def answer(request: Request) -> Response:
        said = search if request.path.startswith("/dicom-web") else rest
        if callable(said):
            said = said(request.query_string.decode())
        if isinstance(said, int):
            return Response(status=said, headers={"Location": "/sign-in"} if said == 302 else {})
        if isinstance(said, list):
            first = request.args.get("since", request.args.get("offset", 0, int), int)
            said = json.dumps(said[first : first + request.args.get("limit", 1, int)])
        return Response(said, content_type="application/dicom+json")

    with (
        running(answer) as url,
        closing(DicomWebArchive(ArchiveSettings(archive_url=f"{url}/dicom-web"))) as client,
    ):
        yield client


def pages_of(client: DicomWebArchive) -> list[list[str]]:
    ask, pages, offset = client.lister(), [], 0
    while found := ask(offset, 2):
        pages.append([study.study_uid for study in found if study])
        offset += len(found)
    return pages


@pytest.mark.parametrize(
    "rest",
    [
        *(302, 400, 401, 403, 404, 405, 500),
        *("<html>", "{}", "[{}]", "[" * 100_000, "1" * 5000),
        [],
        [entry() | {"RequestedTags": {}}],
    ],
)
def test_without_such_a_list_the_archive_is_searched(rest: Any) -> None:
    """A DICOMweb server may well have something else at /studies."""
    with archive(rest, [qido("1.2.3"), qido("1.2.4"), {}, qido("1.2.5")]) as client:
        pages = pages_of(client)
    assert [page for page in pages if page] == [["1.2.3", "1.2.4"], ["1.2.5"]]


def test_the_list_is_asked_for_in_pages() -> None:
    with archive([entry(f"1.2.{number}") for number in range(5)], 500) as client:
        pages = pages_of(client)
    assert pages == [["1.2.0", "1.2.1"], ["1.2.2", "1.2.3"], ["1.2.4"]]


@pytest.mark.parametrize(
    ("rest", "search", "reason"),
    [
        (404, 500, "status-500"),
        (404, '["x"]', "not-dicom-json"),
        (404, "[" * 100_000, "not-dicom-json"),
        (404, "1" * 5000, "not-dicom-json"),
        ([entry(), entry("1.2.4"), {}], [], "not-dicom-json"),
    ],
)
def test_an_answer_that_is_none_is_no_empty_archive(rest: Any, search: Any, reason: str) -> None:
    with archive(rest, search) as client, pytest.raises(ArchiveUnavailableError) as error:
        pages_of(client)
    assert error.value.reason == reason


def test_an_archive_that_is_not_there_is_not_taken_for_another() -> None:
    client = DicomWebArchive(ArchiveSettings(archive_url="http://127.0.0.1:1/dicom-web"))
    with pytest.raises(ArchiveUnavailableError, match="unreachable"):
        client.lister()
    client.close()


@pytest.mark.parametrize("status", [400, 500])
def test_of_a_page_that_one_study_spoils_orthanc_lists_the_uids(status: int) -> None:
    entries = [entry("1.2.3"), entry("1.2.4"), entry("1.2.5")]

    def rest(query: str) -> Any:
        if "requestedTags" not in query:
            return [{**each, "RequestedTags": {}} for each in entries]
        return status if "limit=2" in query and "since=0" in query else entries

    with archive(rest, 404) as client:
        ask = client.lister()
        counts = [(study.study_uid, study.series_count) for at in (0, 2) for study in ask(at, 2) if study]
    assert counts == [("1.2.3", 0), ("1.2.4", 0), ("1.2.5", 2)]


@pytest.mark.parametrize("spoiled", [400, 500, [{"0020000D": "1.2.3"}]])
def test_of_a_page_that_one_study_spoils_a_search_lists_the_uids(spoiled: Any) -> None:
    told = [qido("1.2.3") | {"00201206": {"vr": "IS", "Value": [1]}}, {}]
    with archive(404, lambda query: spoiled if "00080020" in query else told) as client:
        assert client.lister()(0, 2) == [ListedStudy(Uid("1.2.3"), qido("1.2.3")), None]


def test_what_a_search_counts_in_thousands_of_digits_is_not_counted() -> None:
    absurd = {tag: {"vr": "IS", "Value": ["1" * 5000]} for tag in ("00201206", "00201208")}
    with archive(404, [qido("1.2.3") | absurd]) as client:
        (study,) = client.lister()(0, 2)
    assert study is not None
    assert (study.series_count, study.instance_count) == (0, 0)
