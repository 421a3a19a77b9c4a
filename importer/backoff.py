"""How long to wait before trying again, and who may try first."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logs.get(__name__)

GATE_CAP_SECONDS = 4.0
"""With the jitter on top a recovery is noticed within 5 s."""


def exponential(attempt: int, *, first: float, cap: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row, counted from 1."""
    return min(cap, first * 2.0 ** min(attempt - 1, 60))


def _jitter() -> float:
    return random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, keeps no secret


@dataclass
class Gate:
    """Whether a store we depend on is there. While it is not, one probe at a time may try.

    Attributes:
        name: `archive` or `catalog`, for the log, which tells the beginning and the end of an outage once.
        changed: told the new state, for a gauge.
        first: seconds until the first probe.
        cap: seconds between probes at most, but for the jitter.
    """

    name: str
    changed: Callable[[bool], None] = lambda _up: None
    first: float = 0.5
    cap: float = GATE_CAP_SECONDS
    jitter: Callable[[], float] = _jitter
    reason: str = ""
    _failures: int = 0
    _next_probe: float = 0.0
    _probing: bool = False
    _since: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    @property
    def up(self) -> bool:
        """Whether the last answer was a good one."""
        return self._failures == 0

    def may_try(self, now: float) -> bool:
        """Whether a request may be sent now; while the store is down this takes the one probe."""
        with self._lock:
            if self._failures == 0:
                return True
            if self._probing or now < self._next_probe:
                return False
            self._probing = True
            return True

    def cancel(self) -> None:
        """The probe that was granted is not sent after all."""
        with self._lock:
            self._probing = False

    def no_better(self, now: float) -> None:
        """An answer that is no sign of health: of an outage it is one more failure."""
        if self.up:
            self.cancel()
        else:
            self.failed(self.reason, now)

    def due(self, now: float) -> float:
        """Seconds until a probe may be sent; infinite while one is under way, for its end is news."""
        with self._lock:
            if self._failures and self._probing:
                return math.inf
            return max(0.0, self._next_probe - now) if self._failures else 0.0

    def succeeded(self, now: float) -> None:
        """The store answered."""
        with self._lock:
            self._probing = False
            if self._failures == 0:
                return
            self._failures = 0
            seconds = round(now - self._since, 1)
        _log.info(f"{self.name} is back", seconds=seconds)
        self.changed(True)

    def failed(self, reason: str, now: float) -> None:
        """The store gave no answer."""
        with self._lock:
            self._probing = False
            first_of_outage = self._failures == 0
            # Requests that were under way together fail together: that is one failure, not several.
            if first_of_outage or now >= self._next_probe:
                self._failures += 1
                delay = exponential(self._failures, first=self.first, cap=self.cap)
                self._next_probe = now + delay * self.jitter()
            if first_of_outage:
                self._since = now
            self.reason = reason
        if first_of_outage:
            _log.warning(f"{self.name} is away: files wait", reason=reason)
            self.changed(False)
