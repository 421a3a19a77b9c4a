"""Whose turn it is: clinics take turns, so that a large delivery of one does not hold up the others.

In a clinic first seen is first served.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from importer.work import put_in_place

if TYPE_CHECKING:
    from importer.work import WaitingFile
    from pacs.ids import ClinicId


class Turn(NamedTuple):
    """Files of one clinic to be handled now."""

    clinic_id: ClinicId
    files: list[WaitingFile]


class _Lanes:
    """The files of one clinic: new ones, and those to be sent alone; they alternate."""

    __slots__ = ("alone", "alone_next", "blocked_until", "fresh", "rests_until")

    def __init__(self) -> None:
        self.fresh: deque[WaitingFile] = deque()
        self.alone: deque[WaitingFile] = deque()
        self.alone_next = False
        self.blocked_until = 0.0
        self.rests_until = 0.0


class FairQueue:
    """Round-robin over clinics; in a clinic, first seen, first served. Clock passed in, monotonic."""

    def __init__(self) -> None:
        self._clinics: OrderedDict[ClinicId, _Lanes] = OrderedDict()
        self._later: list[tuple[float, int, WaitingFile]] = []
        self._number = count()

    def add(self, file: WaitingFile) -> None:
        """A file that became stable: before those that were seen later, which one that was renamed finds."""
        put_in_place(self._lanes(file.clinic_id).fresh, file)

    def add_first(self, files: list[WaitingFile]) -> None:
        """Files that were taken and could not be handled: back to the head of the line."""
        for file in reversed(files):
            lanes = self._lanes(file.clinic_id)
            (lanes.alone if file.alone else lanes.fresh).appendleft(file)

    def add_alone(self, file: WaitingFile) -> None:
        """A file that must not share a request again."""
        file.alone = True
        self._lanes(file.clinic_id).alone.append(file)

    def add_later(self, file: WaitingFile, due: float) -> None:
        """A file to be taken up again at `due`, in the lane that it belongs to."""
        heapq.heappush(self._later, (due, next(self._number), file))

    def hasten(self, file: WaitingFile, due: float) -> None:
        """A file that waits for a time is to be taken up at `due` already."""
        for index, (planned, number, each) in enumerate(self._later):
            if each is file and planned > due:
                self._later[index] = due, number, file
                heapq.heapify(self._later)
                return

    def withdraw(self, clinic_id: ClinicId) -> list[WaitingFile]:
        """Take out all files of a clinic, those that wait for a time, too."""
        lanes = self._clinics.pop(clinic_id, _Lanes())
        later = [file for _, _, file in self._later if file.clinic_id == clinic_id]
        self._later = [each for each in self._later if each[2].clinic_id != clinic_id]
        heapq.heapify(self._later)
        return [*lanes.alone, *lanes.fresh, *later]

    def block(self, clinic_id: ClinicId, until: float) -> None:
        """Hand out nothing of this clinic before `until`."""
        self._lanes(clinic_id).blocked_until = until

    def rest(self, clinic_id: ClinicId, until: float) -> None:
        """Let the other clinics go first before `until`."""
        self._lanes(clinic_id).rests_until = until

    def next_due(self, now: float) -> float | None:
        """When a file or clinic that waits may be taken up; None when nothing waits for a time."""
        times = [lanes.blocked_until for lanes in self._clinics.values() if lanes.fresh or lanes.alone]
        times += [self._later[0][0]] if self._later else []
        return min((time for time in times if time > now), default=None)

    def is_ready(self, now: float) -> bool:
        """Whether `take` would hand out something."""
        if self._later and self._later[0][0] <= now:
            return True
        return any(
            lanes.blocked_until <= now and (lanes.fresh or lanes.alone) for lanes in self._clinics.values()
        )

    def waiting(self, clinic_id: ClinicId) -> int:
        """How many files of a clinic are in line."""
        lanes = self._clinics.get(clinic_id)
        return len(lanes.fresh) + len(lanes.alone) if lanes else 0

    def take(self, now: float, *, count: int, size: int) -> Turn | None:
        """The next clinic's next files: at most `count`, and `size` bytes unless one alone is larger."""
        while self._later and self._later[0][0] <= now:
            file = heapq.heappop(self._later)[2]
            if file.alone:
                self.add_alone(file)
            else:
                self._lanes(file.clinic_id).fresh.append(file)
        ready = [
            (clinic_id, lanes)
            for clinic_id, lanes in self._clinics.items()
            if lanes.blocked_until <= now and (lanes.fresh or lanes.alone)
        ]
        if not ready:
            return None
        clinic_id, lanes = min(ready, key=lambda each: each[1].rests_until > now)
        self._clinics.move_to_end(clinic_id)
        return self._turn(clinic_id, lanes, count, size)

    @staticmethod
    def _turn(clinic_id: ClinicId, lanes: _Lanes, count: int, size: int) -> Turn:
        if lanes.alone and (lanes.alone_next or not lanes.fresh):
            lanes.alone_next = False
            return Turn(clinic_id, [lanes.alone.popleft()])
        lanes.alone_next = True
        files = [lanes.fresh.popleft()]
        total = files[0].identity.size
        while lanes.fresh and len(files) < count and total + lanes.fresh[0].identity.size <= size:
            files.append(lanes.fresh.popleft())
            total += files[-1].identity.size
        return Turn(clinic_id, files)

    def _lanes(self, clinic_id: ClinicId) -> _Lanes:
        return self._clinics.setdefault(clinic_id, _Lanes())
