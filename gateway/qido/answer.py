"""Search results in the DICOM JSON model (PS3.18 annex F), and what is to be said about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response

from gateway.archive.addresses import RETRIEVE_URL
from gateway.media import DICOM_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.qido.sql import FoundStudy

WARNING_UNSUPPORTED = "These parameters are not supported and were ignored: {}"
WARNING_MORE = "There are additional results that can be requested"


def study_dataset(found: FoundStudy, public_root: str) -> dict[str, Any]:
    """One study, its counts and addresses as the catalog has them now."""
    dataset: dict[str, Any] = json.loads(found.dicom_json)
    if "00080005" in dataset:
        # JSON is UTF-8, whatever the file was written in (PS3.18 section F.2).
        dataset["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    # An empty one would end OHIF's whole list: left out, as what nobody knows.
    dataset.pop("00080061", None)
    if found.modalities:
        dataset["00080061"] = {"vr": "CS", "Value": list(found.modalities)}
    for element in dataset.values():
        if element.get("vr") == "PN" and None in element.get("Value", ()):
            # So does a name of several values of which the first is empty.
            element["Value"] = [name or {} for name in element["Value"]]
    dataset |= {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        RETRIEVE_URL: {"vr": "UR", "Value": [f"{public_root}/studies/{found.study_uid}"]},
        "0020000D": {"vr": "UI", "Value": [found.study_uid]},
        "00201206": {"vr": "IS", "Value": [found.series_count]},
        "00201208": {"vr": "IS", "Value": [found.instance_count]},
    }
    return dict(sorted(dataset.items()))


def search_response(results: Iterable[dict[str, Any]], warnings: Sequence[str]) -> Response:
    """The answer to a search; each warning goes into a Warning header (PS3.18 section 8.3.4, RFC 7234)."""
    body = json.dumps(list(results), ensure_ascii=False, separators=(",", ":"))
    response = Response(body, content_type=DICOM_JSON)
    for warning in warnings:
        response.headers.add("Warning", f'299 clinicpacs "{warning}"')
    return response
