"""Data sets in the DICOM JSON model (PS3.18 annex F), with large binary values as BulkDataURI."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.valuerep import VR

from demo.archive.attributes import CHARACTER_SET, json_tag, value_representation
from demo.archive.part10 import INLINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

BULK_VRS = frozenset({VR.OB, VR.OD, VR.OF, VR.OL, VR.OV, VR.OW, VR.UN})
_FLOAT_VRS = frozenset({VR.FL, VR.FD, VR.DS})
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_META_GROUP = 0x0002

JsonElement = dict[str, Any]
JsonDataset = dict[str, JsonElement]

_UTF_8: JsonElement = {"vr": "CS", "Value": ["ISO_IR 192"]}


def json_dataset(dataset: Dataset, bulk_url: str) -> JsonDataset:
    """All elements of a data set.

    Elements whose value does not fit their VR, which JSON cannot carry, are left out.

    Args:
        dataset: as read by ``open_instance``.
        bulk_url: URL below which the bulk values are served; the tag path is added to it.
    """
    elements = dict(_elements(dataset, bulk_url))
    # JSON is UTF-8, whatever the file was written in (PS3.18 annex F.2).
    if CHARACTER_SET in elements:
        elements[CHARACTER_SET] = _UTF_8
    return elements


def _elements(dataset: Dataset, bulk_url: str) -> Iterator[tuple[str, JsonElement]]:
    for tag in sorted(dataset.keys()):
        if tag.group == _META_GROUP or tag.element == 0:
            continue
        url = f"{bulk_url}/{tag:08x}"
        item = dataset.get_item(tag, keep_deferred=True)
        if is_bulk(item):
            yield json_tag(tag), {"vr": _vr_of(item), "BulkDataURI": url}
        elif (element := json_element(dataset, tag, url)) is not None:
            yield json_tag(tag), element


def is_bulk(element: DataElement | RawDataElement) -> bool:
    """Whether a value is served apart from the metadata: pixel data, and binary ones over INLINE_LIMIT."""
    if element.tag in _PIXEL_TAGS:
        return True
    if _vr_of(element) not in BULK_VRS:
        return False
    if isinstance(element, RawDataElement):
        return element.length > INLINE_LIMIT
    return isinstance(element.value, bytes) and len(element.value) > INLINE_LIMIT


def _vr_of(element: DataElement | RawDataElement) -> str:
    return str(element.VR or value_representation(json_tag(element.tag)))


def json_element(dataset: Dataset, tag: int, bulk_url: str = "") -> JsonElement | None:
    """One element of a data set; None when it is absent or its value cannot be expressed."""
    try:
        element = dataset[tag]
        if element.VR == VR.SQ:
            return _json_sequence(element, bulk_url)
        converted = element.to_json_dict(None, INLINE_LIMIT)
    # Values are decoded on access, by code that trusts them: any error means that this value is no
    # value of its VR. The rest of the data set is good.
    except Exception:  # noqa: BLE001
        return None
    return converted if _is_finite(converted) else None


def _json_sequence(element: DataElement, bulk_url: str) -> JsonElement:
    items = [dict(_elements(item, f"{bulk_url}/{number}")) for number, item in enumerate(element.value, 1)]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _is_finite(element: JsonElement) -> bool:
    # JSON has no infinity and no NaN.
    if element["vr"] not in _FLOAT_VRS:
        return True
    return all(math.isfinite(value) for value in element.get("Value", ()) if isinstance(value, float))
