"""Bulk values by their tag path: ``7fe00010``, ``00420011``, ``54000100/1/54001010``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom.dataelem import RawDataElement
from pydicom.valuerep import VR

from demo.archive.errors import RequestError
from demo.archive.json_model import is_bulk
from demo.archive.pixels import PixelData, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

    from demo.archive.part10 import OpenInstance

_PATH = re.compile(r"[0-9a-fA-F]{8}(/[1-9][0-9]{0,6}/[0-9a-fA-F]{8}){0,32}")
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010


def bulk_parts(opened: OpenInstance, path: str) -> list[Iterator[bytes]]:
    """A bulk value; encapsulated pixel data is one part per frame.

    Raises:
        RequestError: 404 when there is no bulk value at this path.
        UnreadableInstanceError: when it cannot be read.
    """
    if not _PATH.fullmatch(path):
        raise RequestError(404, "no such bulk value")
    *above, last = path.split("/")
    dataset = _descend(opened.dataset, above)
    tag = int(last, 16)
    if tag not in dataset:
        raise RequestError(404, "no such bulk value")
    element = dataset.get_item(tag, keep_deferred=True)
    if not is_bulk(element):
        raise RequestError(404, "no such bulk value")
    if not above and isinstance(element, RawDataElement):
        if element.length != _UNDEFINED:
            return [read_range(opened.stream, element.value_tell, element.length)]
        if tag == _PIXEL_DATA:
            pixels = PixelData(opened)
            return pixels.frames(range(1, pixels.number_of_frames + 1))
    value = dataset[tag].value
    if not isinstance(value, bytes):
        raise RequestError(404, "no such bulk value")
    return [iter([value])]


def _descend(dataset: Dataset, steps: list[str]) -> Dataset:
    for tag, item in zip(steps[::2], steps[1::2], strict=True):
        element = dataset.get(int(tag, 16))
        if element is None or element.VR != VR.SQ or int(item) > len(element.value):
            raise RequestError(404, "no such bulk value")
        dataset = element.value[int(item) - 1]
    return dataset
