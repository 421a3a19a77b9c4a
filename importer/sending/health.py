"""How the archive and the catalog are, as all threads know it, and who may try first while one is away."""

from __future__ import annotations

import math
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from importer.sending.backoff import exponential
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.metrics import ImporterMetrics

_log = logs.get(__name__)

READING, LOCKING, RESERVING, BOOKKEEPING = "reading", "locking", "reserving", "bookkeeping"
"""What the catalog may fail at; each of them opens its gate again only for itself."""

_FIRST_PROBE_SECONDS = 0.5
GATE_CAP_SECONDS = 3.5
"""Between probes at most. With the jitter on top, files are stored again within 5 s of a recovery."""


def _jitter() -> float:
    return random.uniform(1.0, 1.2)  # noqa: S311 - spreads load, keeps no secret


@dataclass
class Attempt:
    """Whether a request may be sent now; `goes_on` when it is, and whoever hears of it tells the gate."""

    granted: bool
    goes_on: bool = False


@dataclass
class Gate:
    """Whether a store we depend on is there. While it is not, one probe at a time may try.

    Attributes:
        name: `the archive` or `the catalog`, for the log, which tells the beginning
            and the end of an outage once.
        jitter: gives the factor for the seconds until the next probe.
    """

    name: str
    jitter: Callable[[], float] = _jitter
    _reasons: dict[str, None] = field(default_factory=dict)
    _failures: int = 0
    _next_probe: float = 0.0
    _probing: bool = False
    _since: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    @property
    def reason(self) -> str:
        """Why it is shut, as told last; empty while it is open."""
        return next(reversed(self._reasons), "")

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

    @contextmanager
    def attempt(self, now: float) -> Iterator[Attempt]:
        """`may_try`, with the probe given back at the end unless the attempt goes on."""
        made = Attempt(self.may_try(now))
        try:
            yield made
        finally:
            if made.granted and not made.goes_on:
                self.cancel()

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

    def succeeded(self, now: float, *, of: str = "") -> None:
        """The store answered: a good sign for all, or only `of` what failed under that reason.

        A full disk still answers whoever reads: what it failed at must succeed before it counts as back.
        """
        with self._lock:
            self._reasons.pop(of, None)
            if of and self._reasons:
                return
            self._reasons.clear()
            self._probing = False
            if self._failures == 0:
                return
            self._failures = 0
            seconds = round(now - self._since, 1)
        _log.info(f"{self.name} is back", seconds=seconds)

    def failed(self, reason: str, now: float) -> None:
        """The store gave no answer."""
        with self._lock:
            self._probing = False
            first_of_outage = self._failures == 0
            # Requests that were under way together fail together: that is one failure, not several.
            if first_of_outage or now >= self._next_probe:
                self._failures += 1
                delay = exponential(self._failures, first=_FIRST_PROBE_SECONDS, cap=GATE_CAP_SECONDS)
                self._next_probe = now + delay * self.jitter()
            if first_of_outage:
                self._since = now
            self._reasons.pop(reason, None)
            self._reasons[reason] = None
        if first_of_outage:
            _log.warning(f"{self.name} is away: files wait", reason=reason)


class Health:
    """The two gates, and which requests stored instances: proof that the archive takes some.

    Requests are numbered as they are sent. What one of them stored shows nothing of the time after: several
    are under way together, and when a disk is full the last answer may come long after the first refusal.
    """

    def __init__(self, metrics: ImporterMetrics) -> None:
        self.archive = Gate("the archive")
        self.catalog = Gate("the catalog")
        metrics.archive_up.set_function(lambda: self.archive.up)
        metrics.catalog_up.set_function(lambda: self.catalog.up)
        self.sent = 0
        self._stored = 0
        self._lock = Lock()

    def send(self) -> int:
        """A request is sent: its number, from 1."""
        with self._lock:
            self.sent += 1
            return self.sent

    def has_stored(self, request: int) -> None:
        """The archive confirmed instances of this request."""
        with self._lock:
            self._stored = max(self._stored, request)

    def stores_since(self, request: int) -> bool:
        """Whether it confirmed instances of a request that was sent after this one."""
        return self._stored > request
