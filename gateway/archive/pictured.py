"""Which image stands for a whole series or study."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from gateway.archive.addresses import INSTANCE_COUNT, INSTANCE_UID, SERIES_UID
from gateway.paths import Kind, Target
from gateway.problems import NotFound
from pacs.archive.model import uid, values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pacs.archive.model import DicomJson

    Search = Callable[[Target, str], Generator[DicomJson]]
    """What the archive lists of a target, by a query, one after another."""

SERIES_MAX = 32
"""Series of a study that are looked into for one with pixels: each costs the archive another question."""
_ROWS = "00280010"


def pictured(search: Search, target: Target) -> Target:
    """The target of a picture itself, or of the middle image of the first of its series that has pixels.

    The middle shows more than the first slice does. Without any pixels it is the first series' all the same,
    so that the archive says why there is no picture.

    Raises:
        NotFound: there is no instance.
    """
    if target.instance:
        return target
    without_pixels = None
    for found, within in islice(_middles(search, target), SERIES_MAX):
        picture = replace(within, kind=target.kind, instance=uid(found, INSTANCE_UID))
        if values(found, _ROWS):
            return picture
        without_pixels = without_pixels or picture
    if without_pixels is None:
        raise NotFound
    return without_pixels


def first(search: Search, target: Target, query: str) -> DicomJson | None:
    """The first that the archive lists; None when there is none."""
    with closing(search(target, query)) as found:
        return next(found, None)


def _middles(search: Search, target: Target) -> Iterator[tuple[DicomJson, Target]]:
    """The middle instance of each series, and where it was found."""
    listed = search(Target(Kind.SERIES, target.study), f"includefield={INSTANCE_COUNT}")
    for series, count in [(uid(each, SERIES_UID), values(each, INSTANCE_COUNT)) for each in listed]:
        if series is None or target.series not in {None, series}:
            continue
        middle = int(count[0]) // 2 if count and str(count[0]).isdecimal() else 0
        within = Target(Kind.INSTANCES, target.study, series)
        found = first(search, within, f"limit=1&offset={middle}&includefield={_ROWS}")
        if found and uid(found, INSTANCE_UID):
            yield found, within
