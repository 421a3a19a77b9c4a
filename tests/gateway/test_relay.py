"""A search within a study says to the archive what was parsed, and nothing more."""

from __future__ import annotations

import pytest

from gateway.problems import BadRequest, NotFound
from gateway.qido.relay import parse_study_search, study_of
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
    assert found.unsupported == ("(another)", "PatientName")


def test_another_study_or_series_is_nowhere() -> None:
    for pairs in ([("StudyInstanceUID", "9.9")], [("0020000E", "9.9")], [("SeriesInstanceUID", "9.8,9.9")]):
        with pytest.raises(NotFound):
            parse_study_search(pairs, STUDY, SERIES)


@pytest.mark.parametrize("value", ["", "1.2,9.9", "1.2\\9.9", "*", "x"])
def test_series_and_instances_are_searched_in_one_study(value: str) -> None:
    assert study_of([("StudyInstanceUID", STUDY)]) == STUDY
    with pytest.raises(BadRequest):
        study_of([("StudyInstanceUID", value)])
