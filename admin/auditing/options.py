"""Options of `clinicpacs audit`."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Any

import click

from admin.terminal import TimeType


class Moment(TimeType):
    """A day in TZ, its begin or its end, or a time with its zone."""

    name = "day"
    needed = "a day is needed, such as 2026-01-02, or a time with its zone, such as 2026-01-02T03:04:05+00:00"

    def __init__(self, *, end: bool) -> None:
        self._end = end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it; usage error when it is none."""
        try:
            day = date.fromisoformat(str(value))
        except ValueError:
            return super().convert(value, param, ctx)
        if self._end:
            day += timedelta(days=1)
        return datetime.combine(day, time()).astimezone()


class Hash(click.ParamType[str]):
    """A hash of the audit trail."""

    name = "hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse it; usage error when it is none."""
        text = str(value).strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", text):
            self.fail("a hash has 64 hexadecimal digits", param, ctx)
        return text


SINCE = click.option("--since", type=Moment(end=False), help="From this day on, as 2026-01-02.")
UNTIL = click.option("--until", type=Moment(end=True), help="To the end of this day.")
LIMIT = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum number of rows."
)
