"""A process whose wall clock is set while it runs; its monotonic one goes on as ever."""

from __future__ import annotations

import datetime as dt
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@dataclass
class WallClock:
    """Sets it, from outside; `place` is a file that tells by how many seconds it is off."""

    place: Path

    def __post_init__(self) -> None:
        self.set_by(days=0)

    def set_by(self, *, days: float) -> None:
        new = self.place.with_suffix(".new")
        new.write_text(str(days * 86400))
        new.rename(self.place)

    @property
    def patch(self) -> str:
        """What a process is to do before all else, for `Process.start`."""
        found = f"sys.path.append({str(TESTS)!r}); from support import wall_clock"
        return f"{found}; wall_clock.follow({str(self.place)!r})"


def follow(place: str) -> None:
    """Whatever module of this process asks for the time of day is told one that is off by so much."""
    seconds, moment = time.time, dt.datetime

    def off() -> float:
        return float(Path(place).read_text())

    class _OfAny(type):
        def __instancecheck__(cls, each: object) -> bool:
            return isinstance(each, moment)

    class Off(moment, metaclass=_OfAny):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment.now(tz) + dt.timedelta(seconds=off())

    time.time = lambda: seconds() + off()
    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is moment:
            module.datetime = Off  # type: ignore[attr-defined]
