"""How long to wait before trying again."""

from __future__ import annotations

BUG_CAP_SECONDS = 3600.0
"""How long a file waits at most that met an error of the importer's own."""


def exponential(attempt: int, *, first: float, cap: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row, counted from 1."""
    return min(cap, first * 2.0 ** min(attempt - 1, 60))
