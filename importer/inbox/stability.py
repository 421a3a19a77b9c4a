"""When is a file finished? When nothing about it changed for the cooldown since we first saw it that way.

The time of modification alone tells nothing: a copy keeps the old one, and a server's clock may be off.
So a file's own times are compared with each other only, and the cooldown runs on a monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.files.tree import Identity


class Ripe(NamedTuple):
    """A stable file: its path below the clinic's folder, what it was, and since when it is known."""

    path: str
    identity: Identity
    first_seen: float


class _Sighting:
    """One file; slots, because a hundred thousand of them may wait."""

    __slots__ = ("first_seen", "identity", "order_ns", "scan", "since", "taken")

    def __init__(self, identity: Identity, order_ns: int, now: float, first_seen: float, scan: int) -> None:
        self.identity = identity
        self.order_ns = order_ns
        self.since = now
        self.first_seen = first_seen
        self.scan = scan
        self.taken = False


class StabilityTracker:
    """The files of one clinic. The clock is passed in, in seconds of a monotonic clock.

    Without a cooldown (0) a file is stable when a pass finds it as the pass before did.

    One pass over the folder is `begin`, `see` for each file (`in_hand` first spares its stat), `finish`.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._sightings: dict[str, _Sighting] = {}
        self._scan = 0
        self._began = 0.0
        self._news: list[_Sighting] = []

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

    def see(self, path: str, identity: Identity, now: float, order_ns: int = 0) -> None:
        """A file is there, and like this; `order_ns` tells apart those first seen in the same pass."""
        sighting = self._sightings.get(path)
        if sighting is None:
            sighting = _Sighting(identity, order_ns, now, self._began, self._scan)
            self._sightings[path] = sighting
            self._news.append(sighting)
            return
        sighting.scan = self._scan
        if sighting.identity != identity:
            sighting.identity, sighting.order_ns, sighting.since = identity, order_ns, now
            self._news.append(sighting)

    def finish(self, unseen: Callable[[str], bool] = lambda _path: False) -> list[Ripe]:
        """The pass is over: the files that became stable, in the order first seen.

        Those first seen in one pass go by `order_ns`. Files that were not seen are forgotten, unless
        `unseen` says that they could not be.
        """
        # As of the pass's end for all of it: what was seen together becomes stable together, or an older
        # version in a folder looked at later would be stored after the newer one.
        latest = max((each.since for each in self._news), default=0.0)
        for each in self._news:
            each.since = latest
        gone = [
            path
            for path, sighting in self._sightings.items()
            if sighting.scan != self._scan and not unseen(path)
        ]
        for path in gone:
            del self._sightings[path]
        ripe: list[tuple[float, int, str, Identity]] = []
        for path, sighting in self._sightings.items():
            if self._is_ripe(sighting):
                sighting.taken = True
                ripe.append((sighting.first_seen, sighting.order_ns, path, sighting.identity))
        ripe.sort()
        return [Ripe(path, identity, first_seen) for first_seen, _, path, identity in ripe]

    def _is_ripe(self, sighting: _Sighting) -> bool:
        if sighting.taken or sighting.scan != self._scan:
            return False
        # Seen after the pass began, so unchanged at least until then.
        return 0 < self._began - sighting.since >= self._cooldown

    def release(self, path: str, first_seen: float) -> None:
        """The file that was handed out is done with; what has its name now is watched anew."""
        sighting = self._sightings.get(path)
        if sighting is not None and sighting.taken and sighting.first_seen == first_seen:
            del self._sightings[path]

    def oldest(self) -> float | None:
        """When the longest waiting file was first seen."""
        # Sightings are only ever added at the end.
        return next((sighting.first_seen for sighting in self._sightings.values()), None)

    def next_ripe(self) -> float | None:
        """When the next file becomes stable if nothing changes."""
        waiting = (each.since for each in self._sightings.values() if not each.taken)
        earliest = min(waiting, default=None)
        return None if earliest is None else earliest + self._cooldown
