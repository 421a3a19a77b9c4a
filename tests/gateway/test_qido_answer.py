"""What OHIF's study list could not read of one study, it would not show of any."""

from __future__ import annotations

import json
from typing import Any

from pacs.catalog import prepared

URL = "https://pacs.example/dicom-web/studies/1.2.3"


def answered(modalities: str, **elements: object) -> dict[str, Any]:
    columns = {"modalities": modalities, "series_count": 1, "instance_count": 2}
    said: dict[str, Any] = {"00080061": {"vr": "CS"}, **elements}
    found: dict[str, Any] = json.loads(prepared.with_address(prepared.prepare("1.2.3", said, columns), URL))
    return found


def test_a_study_whose_modality_nobody_knows_has_no_empty_element_of_it() -> None:
    assert "00080061" not in answered("")
    assert answered("\\CT\\SR\\")["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}


def test_what_every_study_is_listed_with_is_there_and_empty_when_the_archive_does_not_say_it() -> None:
    found = answered("", **{"00100020": {"vr": "LO", "Value": ["P1"]}})
    assert (found["00080030"], found["00100010"]) == ({"vr": "TM"}, {"vr": "PN"})
    assert found["00100020"] == {"vr": "LO", "Value": ["P1"]}


def test_an_empty_first_name_of_several_is_an_empty_name() -> None:
    names = {"vr": "PN", "Value": [None, {"Alphabetic": "Sample^Aurora"}]}
    assert answered("", **{"00080090": names})["00080090"]["Value"] == [{}, {"Alphabetic": "Sample^Aurora"}]


def test_only_the_study_itself_gets_its_address_whatever_its_texts_hold() -> None:
    nested = {"vr": "SQ", "Value": [{"00081190": {"vr": "UR", "Value": ["other"]}}]}
    hostile = {"vr": "LO", "Value": ['\n"},\n"00081190":{"vr":"UR","Value":["evil"]}']}
    found = answered(
        "", **{"00081032": nested, "00081030": hostile, "00081190": {"vr": "UR", "Value": ["archive"]}}
    )
    assert found["00081190"] == {"vr": "UR", "Value": [URL]}
    assert (found["00081032"], found["00081030"]) == (nested, hostile)
    assert list(found) == sorted(found)
