"""When is a file finished? When nothing about it changed for the cooldown since we first saw it that way.

The time of modification alone tells nothing: a copy keeps the old one, and a server's clock may be off.
So a file's own times are compared with each other only, and the cooldown runs on a monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from importer.files.tree import LEAVING
from importer.work import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.files.tree import Identity
    from importer.work import WaitingFile

_REMEMBERED_SECONDS = 300.0
"""How long a file that is not found keeps its place, should it turn up under another name."""


class Ripe(NamedTuple):
    """A stable file: its path below the clinic's folder, what it was, and its place among others.

    Whoever opens it compares what it is then: that is the last look at it.
    """

    path: str
    identity: Identity
    place: Place


@dataclass(slots=True, eq=False)
class _Sighting:
    """One file; slots, because a hundred thousand of them may wait."""

    path: str
    identity: Identity
    place: Place
    since: float
    first_seen: float
    scan: int
    taken: bool = False


_IN_ORDER = attrgetter("place", "path")


class StabilityTracker:
    """The files of one clinic. The clock is passed in, in seconds of a monotonic clock.

    One pass over the folder is `begin`, `see` for each file (`in_hand` first spares its stat), `finish`.
    What became stable is there to `take` whenever it is, without another pass.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._sightings: dict[str, _Sighting] = {}
        self._scan = 0
        self._began = 0.0
        self._news: list[_Sighting] = []
        self._places: dict[tuple[int, int, int, int], tuple[Place, float]] = {}

    def __len__(self) -> int:
        return len(self._sightings)

    def begin(self, now: float) -> None:
        """A pass begins."""
        self._scan += 1
        self._began = now
        self._news.clear()

    def in_hand(self, path: str) -> bool:
        """Whether the file was handed out already: whoever has it will find out if it changes."""
        sighting = self._sightings.get(path)
        if sighting is None or not sighting.taken:
            return False
        sighting.scan = self._scan
        return True

    def see(self, path: str, identity: Identity, now: float, came_ns: int = 0) -> None:
        """A file is there, and like this; `came_ns` tells apart those first seen in the same pass."""
        sighting = self._sightings.get(path)
        if sighting is None:
            place = Place(self._began, came_ns)
            sighting = _Sighting(path, identity, place, now, self._began, self._scan)
            self._sightings[path] = sighting
            self._news.append(sighting)
            return
        sighting.scan = self._scan
        if sighting.identity != identity:
            if identity[:2] != sighting.identity[:2]:
                # Another file has its name, and it has perhaps another one.
                self._remember(sighting)
            if not identity.was(sighting.identity):
                # Other contents are another version; another mode, owner or link is none.
                sighting.place = Place(self._began, came_ns)
            sighting.identity, sighting.since = identity, now
            self._news.append(sighting)

    def finish(self, unseen: Callable[[str], bool] = lambda _path: False) -> None:
        """The pass is over: files that were not seen are forgotten unless `unseen` says they could not be."""
        # As of the pass's end for all of it: what was seen together becomes stable together, or an older
        # version in a folder looked at later would be stored after the newer one.
        latest = max((each.since for each in self._news), default=0.0)
        for each in self._news:
            each.since = latest
        news, self._news = self._news, []
        gone = [
            path
            for path, sighting in self._sightings.items()
            if sighting.scan != self._scan and not unseen(path)
        ]
        for path in gone:
            self._remember(self._sightings.pop(path))
        if news:
            self._follow(news)

    def _remember(self, lost: _Sighting) -> None:
        if not lost.path.rpartition("/")[2].startswith(LEAVING):  # filed, as a rule
            self._places[lost.identity[:4]] = lost.place, self._began

    def _follow(self, news: list[_Sighting]) -> None:
        """A file that was only renamed, as with its folder, keeps its place before those that came later."""
        forgotten = self._began - _REMEMBERED_SECONDS
        self._places = {key: each for key, each in self._places.items() if each[1] > forgotten}
        lost = ((key, place) for key, (place, _) in self._places.items())
        # What is renamed behind the pass's back may be seen in it under both names.
        there = ((each.identity[:4], each.place) for each in self._sightings.values())
        renamed = {each.identity[:4]: each for each in news}
        for key, place in chain(lost, there):
            new = renamed.get(key)
            if new is not None and place < new.place:
                new.place, new.first_seen = place, min(place.seen, new.first_seen)

    def take(self, now: float) -> Iterator[Ripe]:
        """Hand out the files that are stable by now, in their places, between two passes.

        What the last pass could not see stays.
        """
        ripe = [
            each
            for each in self._sightings.values()
            if not each.taken and each.scan == self._scan and 0 < now - each.since >= self._cooldown
        ]
        ripe.sort(key=_IN_ORDER)
        for each in ripe:
            each.taken = True
            yield Ripe(each.path, each.identity, each.place)

    def release(self, file: WaitingFile, *, lost: bool = False) -> None:
        """A file that was handed out is done with, or lost; what has its name now is watched anew."""
        sighting = self._sightings.get(file.path)
        if sighting is not None and sighting.taken and sighting.place == file.place:
            del self._sightings[file.path]
            if lost:
                self._remember(sighting)
        if not lost:
            # What is put back after it was filed is brought anew.
            self._places.pop(file.identity[:4], None)

    def oldest(self) -> float | None:
        """When the longest waiting file was first seen."""
        return min((each.first_seen for each in self._sightings.values()), default=None)

    def next_ripe(self) -> float:
        """When the next file becomes stable if nothing changes; infinite when none is to."""
        waiting = (
            each.since for each in self._sightings.values() if not each.taken and each.scan == self._scan
        )
        return min(waiting, default=math.inf) + self._cooldown
