"""How long to wait before trying again."""

from __future__ import annotations


def exponential(attempt: int, *, first: float, cap: float) -> float:
    """Seconds to wait after the `attempt`-th failure in a row, counted from 1."""
    return min(cap, first * 2.0 ** min(attempt - 1, 60))
