"""What the importer's threads hand to each other: files on their way, and what became of them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections import deque

    from importer.files.tree import Identity
    from pacs.catalog.imports import Outcome
    from pacs.ids import ClinicId, Uid


@dataclass(frozen=True)
class Known:
    """The UIDs of a file, as far as they could be read."""

    study_uid: Uid | None = None
    series_uid: Uid | None = None
    sop_instance_uid: Uid | None = None


class Place(NamedTuple):
    """Tells which of two versions of an image the clinic brought first.

    Attributes:
        seen: when the look began that found it first, seconds of the monotonic clock.
        came_ns: its time of change then, nanoseconds: for those of one look.
    """

    seen: float
    came_ns: int


@dataclass(frozen=True)
class Settlement:
    """What became of a file for good: only the move to where such files go is left."""

    outcome: Outcome
    reason: str = ""
    text: str = ""
    known: Known = field(default_factory=Known)


@dataclass(slots=True, eq=False)
class WaitingFile:
    """A stable file on its way, from the scanner until it is filed.

    Attributes:
        path: below the clinic's inbox folder.
        place: among the versions of its image; names this sighting to the tracker.
        stable_at: when it was found stable, seconds of the monotonic clock.
        known: its UIDs since its header was read first.
        holds: its study was reserved for it; that must not be given up before it is finished.
        alone: it must not share a request again.
        settled: what became of it, when only the move is left.
        looked_up: the archive said that its study, which the catalog did not know, is nobody else's.
        blocked: why it waits, for the gauge; empty when it does not.
        stuck: it waits for an answer of the archive that others get.
        trouble: what its last back-off was for, and
        attempts: how many of them in a row.
        processing_failures: answers that listed it with 0x0110.
        trouble_at: the last request that had been sent at its last trouble; None before the first.
        overtaken: older versions of its image that could not be stored: they wait for what becomes of it.
    """

    clinic_id: ClinicId
    path: str
    identity: Identity
    place: Place
    stable_at: float
    known: Known | None = None
    holds: bool = False
    alone: bool = False
    settled: Settlement | None = None
    looked_up: bool = False
    blocked: str = ""
    stuck: bool = False
    trouble: str = ""
    attempts: int = 0
    processing_failures: int = 0
    trouble_at: int | None = None
    overtaken: tuple[WaitingFile, ...] = ()

    def attempt(self, trouble: str) -> int:
        """One more attempt ended in this; returns how many in a row."""
        self.attempts = self.attempts + 1 if trouble == self.trouble else 1
        self.trouble = trouble
        return self.attempts


_PLACE = attrgetter("place")


def put_in_place(line: deque[WaitingFile], file: WaitingFile) -> None:
    """Behind those of the line that came before it: one that was renamed meanwhile finds its place again."""
    if line and line[-1].place > file.place:
        line.insert(bisect_right(line, file.place, key=_PLACE), file)
    else:
        line.append(file)


class End(StrEnum):
    """How one handling of a file ended."""

    FILED = "filed"
    GONE = "gone"
    CHANGED = "changed"
    """Another file has its name, or it was written to: to be watched anew."""
    ALONE = "alone"
    WAIT = "wait"
    """In line, for the archive."""
    LATER = "later"
    """After a back-off of its own."""
    NEWEST = "newest"
    """In line, stored, to be filed after those that it has overtaken."""
    LOOKED_UP = "looked-up"
    """In line, to be reserved: its study is nobody else's."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one handling of a file ended; `sent` when it had been reserved and counted as under way.

    `stored` when the archive confirmed it just now, wherever its file is. `delay` is in seconds, for LATER.
    """

    file: WaitingFile
    end: End
    sent: bool = False
    stored: bool = False
    delay: float = 0.0
