"""Time, passed in so that tests can turn it."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime


class Clock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The time of day, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def today(self) -> date:
        """The day in TZ: shares end with it."""
        return self.now().astimezone().date()
