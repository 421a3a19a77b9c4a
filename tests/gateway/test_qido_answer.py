"""What OHIF's study list could not read of one study, it would not show of any."""

from __future__ import annotations

import json

from gateway.qido.answer import study_dataset
from gateway.qido.sql import FoundStudy


def answered(modalities: tuple[str, ...], **elements: object) -> dict[str, dict[str, object]]:
    kept = json.dumps({"00080061": {"vr": "CS"}, **elements})
    return study_dataset(FoundStudy("1.2.3", modalities, 1, 1, kept), "https://pacs.example/dicom-web")


def test_a_study_whose_modality_nobody_knows_has_no_empty_element_of_it() -> None:
    assert "00080061" not in answered(())
    assert answered(("CT", "SR"))["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}


def test_an_empty_first_name_of_several_is_an_empty_name() -> None:
    names = {"vr": "PN", "Value": [None, {"Alphabetic": "Sample^Aurora"}]}
    assert answered((), **{"00080090": names})["00080090"]["Value"] == [{}, {"Alphabetic": "Sample^Aurora"}]
