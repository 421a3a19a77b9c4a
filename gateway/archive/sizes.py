"""How large images become when the archive decodes them: asked before it is made to do so.

A file of 1.6 kB may claim 65,500 x 65,500 pixels. Asked for its picture, Orthanc 1.12.7 takes 4 GB and 16 s
(measured): a stranger's image must not take the archive away from everybody. What the archive gives out as it
is stored is not decoded, and so not asked about.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.paths import FILES, PICTURES, Kind, Target
from gateway.problems import NotAcceptable
from pacs.archive.model import values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from gateway.access.studies import OpenStudy
    from gateway.media import Representation
    from pacs.archive.model import DicomJson

FRAME_MAX = 128 << 20
"""Bytes of one decoded frame: 8192 x 8192 pixels of 16 bits. Orthanc takes five times that for a picture."""
INSTANCE_MAX = 1 << 30
"""Bytes of all frames of an instance, which are decoded together for another transfer syntax."""
_ROWS, _COLUMNS, _SAMPLES, _BITS, _FRAMES = "00280010", "00280011", "00280002", "00280100", "00280008"
_QUERY = f"includefield={_SAMPLES},{_FRAMES},{_ROWS},{_COLUMNS},{_BITS}"
_INSTANCE = "00080018"
_KNOWN_MAX = 10_000


class TooLargeError(NotAcceptable):
    """The archive is not made to decode this."""

    def __init__(self) -> None:
        super().__init__("This is too large to decode here; request it as stored, with transfer-syntax=*.")


class Sizes:
    """Looks sizes up, of what has settled once for each resource and revision. Threads share one.

    Args:
        search: what the archive lists of a target's instances, by a query; it is taken one after another,
            and so there may be any number.
    """

    def __init__(self, search: Callable[[Target, str], Generator[DicomJson]]) -> None:
        self._search = search
        self._known: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, target: Target, study: OpenStudy, representation: Representation) -> None:
        """Refuse what would be decoded and is too large.

        Raises:
            TooLargeError: it is.
        """
        is_picture = target.kind in PICTURES
        if not is_picture and (target.kind not in FILES or representation.transfer_syntax == "*"):
            return
        frame, instance = self._largest(target, study)
        if frame > FRAME_MAX or (instance > INSTANCE_MAX and not is_picture):
            raise TooLargeError

    def _largest(self, target: Target, study: OpenStudy) -> tuple[int, int]:
        """Bytes of the largest frame and of the largest instance."""
        # Without a row in the catalog nothing says when it changes, and while it does the revision stays.
        if study.owner is None or not study.settled:
            return self._looked_up(target)
        # The whole address: another clinic may have brought in an instance of the same UID.
        key = (replace(target, frames=()).resource(), study.revision)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._looked_up(target)
            with self._lock:
                self._known[key] = known
                while len(self._known) > _KNOWN_MAX:
                    self._known.popitem(last=False)
        return known

    def frames(self, target: Target) -> int:
        """How many frames an instance has; none without pixels, or when it is not there."""
        with closing(self._listed(target)) as listed:
            frame, whole = _size(next(listed, {}))
        return whole // frame if frame else 0

    def _listed(self, target: Target) -> Generator[DicomJson]:
        query = f"{_INSTANCE}={target.instance}&{_QUERY}" if target.instance else _QUERY
        return self._search(Target(Kind.INSTANCES, target.study, target.series), query)

    def _looked_up(self, target: Target) -> tuple[int, int]:
        largest_frame = largest_instance = 0
        for each in self._listed(target):
            frame, instance = _size(each)
            largest_frame, largest_instance = max(largest_frame, frame), max(largest_instance, instance)
        return largest_frame, largest_instance


def _size(dataset: DicomJson) -> tuple[int, int]:
    frame = _number(dataset, _ROWS, 0) * _number(dataset, _COLUMNS, 0) * _number(dataset, _SAMPLES, 1)
    frame = frame * _number(dataset, _BITS, 8) // 8
    return frame, frame * _number(dataset, _FRAMES, 1)


def _number(dataset: DicomJson, tag: str, otherwise: int) -> int:
    found = [str(each) for each in values(dataset, tag)[:1]]
    return int(found[0]) if found and found[0].isdecimal() else otherwise
