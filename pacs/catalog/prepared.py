"""One study as a search answers it (PS3.18 annex F), prepared when its row is written.

A list has a hundred of them: only their addresses, which depend on where the platform is reached, are put in
when it is asked for.

Migration 0002 calls this: what it reads of a row must have been there then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pacs.archive.model import DicomJson

_RETRIEVE_URL = "00081190"
# PS3.18 table 10.6.3-3; OHIF's list takes no empty ModalitiesInStudy, which the table has besides.
_REQUIRED = {
    "00080020": "DA",
    "00080030": "TM",
    "00080050": "SH",
    "00080090": "PN",
    "00100010": "PN",
    "00100020": "LO",
    "00100030": "DA",
    "00100040": "CS",
    "00200010": "SH",
}
# Where the address goes. JSON escapes a line feed within a text, and takes one between two elements.
_PLACE = "\n"


def prepare(study_uid: str, said: DicomJson, columns: Mapping[str, Any]) -> str:
    """What the archive said of the study, with the counts of its row, still without its address."""
    dataset: dict[str, Any] = {tag: {"vr": vr} for tag, vr in _REQUIRED.items()} | said
    if "00080005" in dataset:
        # JSON is UTF-8, whatever the file was written in (PS3.18 section F.2).
        dataset["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    # An empty one would end OHIF's whole list: left out, as what nobody knows.
    dataset.pop("00080061", None)
    if modalities := [each for each in columns["modalities"].split("\\") if each]:
        dataset["00080061"] = {"vr": "CS", "Value": modalities}
    dataset = {tag: _readable(element) for tag, element in dataset.items()} | {
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "00201206": {"vr": "IS", "Value": [columns["series_count"]]},
        "00201208": {"vr": "IS", "Value": [columns["instance_count"]]},
    }
    before = {tag: element for tag, element in sorted(dataset.items()) if tag < _RETRIEVE_URL}
    after = {tag: element for tag, element in sorted(dataset.items()) if tag > _RETRIEVE_URL}
    return f"{_json(before)[:-1]},{_PLACE}{_json(after)[1:]}"


def with_address(prepared: str, url: str) -> str:
    """The same with its address, as JSON; `url` is of this platform and needs no escaping."""
    return prepared.replace(_PLACE, f'"{_RETRIEVE_URL}":{{"vr":"UR","Value":["{url}"]}},', 1)


def _readable(element: dict[str, Any]) -> dict[str, Any]:
    values = element.get("Value")
    if element.get("vr") == "PN" and isinstance(values, list) and None in values:
        # A name of several values of which the first is empty would end OHIF's list, too.
        return element | {"Value": [name or {} for name in values]}
    return element


def _json(dataset: dict[str, Any]) -> str:
    return json.dumps(dataset, ensure_ascii=False, separators=(",", ":"))
