"""How old things are, by a clock that nobody sets.

The catalog's own times are a wall clock's: it may be set while we run, by years after a start without a
network, and those of several machines differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from datetime import datetime

_LEAP_SECONDS = 1.0

T = TypeVar("T", bound="Hashable")


class Ages(Generic[T]):
    """Since when each of some things has been as it is, as far as this process has seen.

    `clock` tells seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[T, float] = {}

    def see(self, found: Iterable[T]) -> None:
        """These are all that there are now; others, and what they were before, are forgotten."""
        now = self._clock()
        self._since = {each: self._since.get(each, now) for each in found}

    def of(self, one: T) -> float:
        """Its age in seconds; 0 if it was not seen."""
        now = self._clock()
        return now - self._since.get(one, now)


class Leaps:
    """Notices that the wall clock was set forward. `clock` tells seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[datetime, float] | None = None

    def leapt(self, wall: datetime) -> bool:
        """Whether the wall clock, which says this now, gained on the other one since it was asked last."""
        now = self._clock()
        last, self._last = self._last, (wall, now)
        return last is not None and (wall - last[0]).total_seconds() - (now - last[1]) > _LEAP_SECONDS
