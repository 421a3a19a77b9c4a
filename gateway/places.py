"""Threads that wait for a server: how many at a time, and how many of them for one subject.

While the archive or the issuer hangs, each request that needs it holds one of the process's threads. The
others are for what needs neither: lists of studies, health checks, metrics.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gateway.problems import Unavailable

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 20
"""After the last answer: until then others wait for a place. Metadata of eight large new series take 11 s."""
WAIT_SECONDS = 30
"""At most, however many are answered meanwhile."""


@dataclass(eq=False)
class _Seat:
    """What a thread has, however many answers it reads at once."""

    subject: str
    uses: int = 0


class Place:
    """Leave to wait. Give it back, whatever happens; more than once does no harm."""

    def __init__(self, places: Places, seat: _Seat) -> None:
        self._places = places
        self._seat = seat
        self._is_given_back = False

    def answered(self) -> None:
        """The server is there: it is worth the while to wait for a place."""
        self._places.note_answer(self._seat)

    def give_back(self) -> None:
        """Let somebody else wait."""
        if not self._is_given_back:
            self._is_given_back = True
            self._places.leave(self._seat)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def __del__(self) -> None:
        # Nobody closes a response whose headers the server does not take.
        self.give_back()


class Places:
    """Lets threads wait for one server. They share one.

    Args:
        of_all: how many wait at a time.
        of_one: how many of them for one subject.
        refusal: what the others are told, as a sentence.
    """

    def __init__(self, of_all: int, of_one: int, refusal: str) -> None:
        self._of_all = of_all
        self._of_one = of_one
        self._refusal = refusal
        self._changed = threading.Condition()
        self._seats: set[_Seat] = set()
        self._last_answers: dict[str, float] = {}
        self._thread = threading.local()

    def take(self, subject: str) -> Place:
        """Have a place, waiting for it while others are answered. A thread that has one gets no second one.

        Raises:
            Unavailable: there is none for this subject.
        """
        with self._changed:
            seat: _Seat | None = getattr(self._thread, "seat", None)
            if seat is None or not seat.uses:
                self._wait_for_room(subject)
                seat = self._thread.seat = _Seat(subject)
                self._seats.add(seat)
                self._last_answers.setdefault(subject, time.monotonic())
            seat.uses += 1
            return Place(self, seat)

    def _wait_for_room(self, subject: str) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while in_the_way := self._in_the_way(subject):
            # Others' answers are no hope for who waits for his own share.
            last = max(self._last_answers.get(each.subject, 0.0) for each in in_the_way)
            seconds = min(until, last + PATIENCE_SECONDS) - time.monotonic()
            if seconds <= 0:
                raise Unavailable(self._refusal)
            self._changed.wait(seconds)

    def _in_the_way(self, subject: str) -> list[_Seat]:
        """Whose places this subject waits for; none when there is room."""
        seats = list(self._seats)
        own = [each for each in seats if each.subject == subject]
        if len(own) >= self._of_one:
            return own
        return seats if len(seats) >= self._of_all else []

    def note_answer(self, seat: _Seat) -> None:
        """See `Place.answered`."""
        with self._changed:
            if seat in self._seats:
                self._last_answers[seat.subject] = time.monotonic()

    def leave(self, seat: _Seat) -> None:
        """See `Place.give_back`."""
        with self._changed:
            seat.uses -= 1
            if not seat.uses:
                self._seats.remove(seat)
                # A copy: garbage that is collected meanwhile may give places back, in this very thread.
                if all(each.subject != seat.subject for each in list(self._seats)):
                    self._last_answers.pop(seat.subject, None)
                self._changed.notify_all()
