"""A search within a study says to the archive what was parsed, and nothing more."""

from __future__ import annotations

import pytest
from pydicom.datadict import dictionary_VR

from gateway.paths import Kind
from gateway.problems import BadRequest, NotFound
from gateway.qido.relay import MATCHED, parse_study_search, study_of
from pacs.ids import Uid

STUDY, SERIES = Uid("1.2"), Uid("1.3")


@pytest.mark.parametrize(
    "value", ["US&StudyInstanceUID=9.9", "US#x", "a=b", "a+b", "é", "a;b", "%26", "a/../b"]
)
def test_no_value_becomes_another_parameter(value: str) -> None:
    found = parse_study_search([("SeriesDescription", value)], STUDY, None).query
    name, _, rest = found.partition("=")
    assert name == "0008103E"
    assert not set("&#=+;é /") & set(rest)


def test_only_what_the_archive_matches_is_said() -> None:
    found = parse_study_search(
        [("PatientName", "x"), ("_method", "DELETE"), ("Modality", "US"), ("StudyInstanceUID", STUDY)],
        STUDY,
        None,
    )
    assert (found.query, found.limit) == ("00080060=US", None)
    assert found.unsupported == ("(unnamed)", "PatientName")


@pytest.mark.parametrize("value", ["", " ", "*", "**"])
@pytest.mark.parametrize("name", ["00200013", "00280010", "0008103E", "00080021", "00080031"])
def test_what_matches_all_is_only_to_be_told(name: str, value: str) -> None:
    """PS3.4 sections C.2.2.2.3 and C.2.2.2.4."""
    asked = [(name, value), ("includefield", "00080060")]
    told = ",".join(sorted((name, "00080060")))
    assert parse_study_search(asked, STUDY, None).query == f"includefield={told}"
    everything = [(name, value), ("includefield", "all")]
    assert parse_study_search(everything, STUDY, None).query == "includefield=all"


@pytest.mark.parametrize("value", ["1*", "?", "*1", "1?", "1.5", "1-3", "x", "1\\2", "-", "\u0661", "1" * 13])
@pytest.mark.parametrize("name", ["SeriesNumber", "InstanceNumber", "Rows", "Columns"])
def test_a_number_is_a_whole_one(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} must be a whole number"):
        parse_study_search([(name, value)], STUDY, None)
    assert parse_study_search([(name, " 12 ")], STUDY, None).query.endswith("=12")


def test_each_attribute_is_matched_by_its_type() -> None:
    """Orthanc refuses wild cards in other numbers than these, too."""
    assert {dictionary_VR(int(each, 16)) for each in MATCHED} <= {"CS", "DA", "IS", "LO", "TM", "UI", "US"}


def test_a_way_of_matching_that_is_not_done_is_told() -> None:
    names = ("emptyvaluematching", "multiplevaluematching")
    asked = parse_study_search([(name, "true") for name in names], STUDY, None)
    assert (asked.query, asked.unsupported) == ("", names)
    assert parse_study_search([(name, "false") for name in names], STUDY, None).unsupported == ()


@pytest.mark.parametrize("fields", ["00080062", "SOPClassesInStudy", "00080062,00080060"])
def test_what_orthanc_refuses_to_tell_of_instances_is_not_asked(fields: str) -> None:
    asked = [("includefield", fields)]
    left = "includefield=00080060" if "," in fields else ""
    assert parse_study_search(asked, STUDY, None, Kind.INSTANCES).query == left
    assert "00080062" in parse_study_search(asked, STUDY, None, Kind.SERIES).query


def test_another_study_or_series_is_nowhere() -> None:
    for pairs in ([("StudyInstanceUID", "9.9")], [("0020000E", "9.9")], [("SeriesInstanceUID", "9.8,9.9")]):
        with pytest.raises(NotFound):
            parse_study_search(pairs, STUDY, SERIES)


@pytest.mark.parametrize("value", ["", "1.2,9.9", "1.2\\9.9", "*", "x"])
def test_series_and_instances_are_searched_in_one_study(value: str) -> None:
    assert study_of([("StudyInstanceUID", STUDY)]) == STUDY
    with pytest.raises(BadRequest):
        study_of([("StudyInstanceUID", value)])
