"""Whether a thread still goes on: it beats while it works, and others look how long ago that was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HUNG_SECONDS = 900.0
"""A thread that is silent for so long does not go on by itself; less may be a slow share or archive."""


class Pulse:
    """One thread's; `clock` tells seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beat: float | None = None

    def beat(self) -> float:
        """The thread goes on; tells the time."""
        now = self._beat = self._clock()
        return now

    def rest(self) -> None:
        """The thread waits for work, which may take as long as it likes."""
        self._beat = None

    @property
    def silence(self) -> float:
        """Seconds since the last beat; 0 while it rests."""
        beat = self._beat
        return 0.0 if beat is None else max(0.0, self._clock() - beat)

    @property
    def hangs(self) -> bool:
        """Whether the thread is beyond hope."""
        return self.silence >= HUNG_SECONDS
