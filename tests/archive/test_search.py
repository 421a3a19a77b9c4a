"""QIDO-RS, on the embedded archive and on Orthanc."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from support.archives import Study, Web, values
from support.corpus import SamplePatient, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENT_ID, STUDY_UID, SOP_UID = "00100020", "0020000D", "00080018"


@pytest.fixture
def three(archive: Web) -> Iterator[tuple[Web, str, dict[str, Study]]]:
    """Studies a, b and c of patients PREFIX-a ... in an archive that has others besides."""
    studies = {name: Study() for name in "abc"}
    prefix = studies["a"].uid[-12:]
    names = {"a": "Sample^Aurora", "b": "Sampler^Boris", "c": "Specimen^Cosmo"}
    for name, study in studies.items():
        patient = SamplePatient(f"{prefix}-{name}", names[name])
        archive.store(study.file(patient=patient))
    archive.store(
        studies["b"].file(
            "MR",
            number=2,
            patient=SamplePatient(f"{prefix}-b", names["b"]),
            series_uid=f"{prefix.lstrip('0')}.7",
        )
    )
    return archive, prefix, studies


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"PatientID": "{}-a"}, "a"),
        ({"00100020": "{}-?"}, "abc"),
        ({"PatientID": "{}*", "PatientName": "sample*"}, "ab"),
        ({"PatientID": "{}*", "PatientName": "Sample?Aur*"}, "a"),
        ({"PatientID": "{}*", "PatientName": "*o*"}, "abc"),
        ({"PatientID": "{}*", "ModalitiesInStudy": "MR"}, "b"),
        ({"PatientID": "{}*", "ModalitiesInStudy": "CT"}, "abc"),
        ({"PatientID": "{}*", "StudyDate": ""}, "abc"),
        ({"PatientID": "{}*", "StudyDate": "19000101-"}, "abc"),
        ({"PatientID": "{}*", "StudyDate": "-19000101"}, ""),
        ({"PatientID": "{}*", "StudyDate": "19000101-19000102"}, ""),
        ({"PatientID": "{}*", "PatientSex": "F", "AccessionNumber": ""}, "abc"),
        ({"PatientID": "{}-d"}, ""),
        ({"PatientID": "{}_a*"}, ""),
        ({"PatientID": "{}%*"}, ""),
    ],
)
def test_studies_by_key(
    three: tuple[Web, str, dict[str, Study]], query: dict[str, str], expected: str
) -> None:
    archive, prefix, studies = three
    found = archive.found("/studies", **{key: value.format(prefix) for key, value in query.items()})
    assert {values(each, STUDY_UID)[0] for each in found} == {studies[name].uid for name in expected}


def test_a_list_of_uids_is_or(three: tuple[Web, str, dict[str, Study]]) -> None:
    archive, _, studies = three
    both = f"{studies['a'].uid},{studies['c'].uid}"
    found = archive.found("/studies", StudyInstanceUID=both)
    assert {values(each, STUDY_UID)[0] for each in found} == {studies["a"].uid, studies["c"].uid}


def test_counts_modalities_and_urls(three: tuple[Web, str, dict[str, Study]]) -> None:
    archive, prefix, studies = three
    (study,) = archive.found("/studies", PatientID=f"{prefix}-b")
    assert sorted(values(study, "00080061")) == ["CT", "MR"]
    assert [int(values(study, tag)[0]) for tag in ("00201206", "00201208")] == [2, 2]
    assert values(study, "00081190")[0].endswith(f"/dicom-web/studies/{studies['b'].uid}")
    series = archive.found(f"/studies/{studies['b'].uid}/series")
    assert sorted(values(each, "00080060")[0] for each in series) == ["CT", "MR"]
    assert [int(values(each, "00201209")[0]) for each in series] == [1, 1]
    (ct,) = archive.found(f"/studies/{studies['b'].uid}/series", Modality="CT")
    assert values(ct, "0020000E") == [studies["b"].series]


def test_instances_of_a_series_of_a_study_and_of_all(three: tuple[Web, str, dict[str, Study]]) -> None:
    archive, _, studies = three
    b = studies["b"]
    assert [values(each, SOP_UID) for each in archive.found(f"{b.path()}/instances")] == [[b.sop(1)]]
    of_study = archive.found(f"/studies/{b.uid}/instances")
    assert {values(each, SOP_UID)[0] for each in of_study} == {b.sop(1), b.sop(2)}
    (only,) = archive.found("/instances", SOPInstanceUID=b.sop(2))
    assert values(only, STUDY_UID) == [b.uid]
    assert len(archive.found(f"/studies/{b.uid}/instances", limit="1")) == 1


def test_pages_together_are_the_whole(three: tuple[Web, str, dict[str, Study]]) -> None:
    archive, prefix, studies = three
    pages = [
        archive.found("/studies", PatientID=f"{prefix}*", limit="2", offset=str(offset))
        for offset in (0, 2, 4)
    ]
    assert [len(page) for page in pages] == [2, 1, 0]
    seen = {values(each, STUDY_UID)[0] for page in pages for each in page}
    assert seen == {study.uid for study in studies.values()}


@pytest.mark.parametrize("field", ["00080080", "InstitutionName", "StudyDate,InstitutionName"])
def test_what_is_asked_for_is_included(archive: Web, study: Study, field: str) -> None:
    dataset = dcmread(BytesIO(study.file()))
    dataset.InstitutionName = "northside"
    archive.store(to_bytes(dataset))
    (without,) = archive.found("/studies", StudyInstanceUID=study.uid)
    (found,) = archive.found("/studies", StudyInstanceUID=study.uid, includefield=field)
    assert values(found, "00080080") == ["northside"]
    assert "00080080" not in without


def test_an_attribute_that_is_not_indexed_comes_from_the_file(embedded: Web, study: Study) -> None:
    embedded.store(study.file())
    (found,) = embedded.found(f"{study.path()}/instances", includefield="00280100,00280101,00189999")
    assert values(found, "00280101") == [16]
    assert found["00189999"] == {"vr": "UN"}


def test_nothing_found_is_an_empty_list(archive: Web) -> None:
    assert archive.found("/studies", StudyInstanceUID="1.2.3") == []
    assert archive.found("/studies/1.2.3/series") == []
    assert archive.found("/studies/1.2.3/series/4/instances") == []


def test_names_in_any_script_are_found_and_answered_in_utf_8(embedded: Web, study: Study) -> None:
    embedded.store(study.file(patient="cyrillic"))
    (found,) = embedded.found("/studies", StudyInstanceUID=study.uid)
    name = values(found, "00100010")[0]["Alphabetic"]
    assert not name.isascii()
    assert embedded.found("/studies", StudyInstanceUID=study.uid, PatientName=f"{name[:3].upper()}*")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "x"},
        {"limit": "-1"},
        {"offset": "1e3"},
        {"NoSuchKeyword": "1"},
        {"includefield": "NoSuchKeyword"},
        {"StudyDate": "yesterday"},
        {"StudyDate": "20250101-x"},
        {"SOPInstanceUID": "1.2"},
        {"PixelData": "x"},
    ],
)
def test_a_query_that_makes_no_sense_is_400(embedded: Web, query: dict[str, str]) -> None:
    answer = embedded.get("/studies", **query)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


def test_fuzzy_matching_is_declined_with_a_warning(embedded: Web) -> None:
    assert embedded.get("/studies", fuzzymatching="true", limit="1").headers["Warning"].startswith("299 ")


def test_dicomweb_client_finds_what_was_stored(archive: Web, study: Study) -> None:
    archive.store(study.file())
    client = archive.client
    (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": study.uid})
    assert values(found, STUDY_UID) == [study.uid]
    assert len(client.search_for_series(study.uid)) == 1
    assert len(client.search_for_instances(study.uid, study.series)) == 1
