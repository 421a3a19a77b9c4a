"""What a measurement is, and the file that keeps the latest of each: `bench/results.json`."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Sample:
    """What the rounds of one subject gave, in the unit of its figure."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and most."""
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class Row:
    """One more subject, or one more case, that was measured beside: for the figure's own table and plot."""

    name: str
    unit: str
    sample: Sample


@dataclass(frozen=True)
class Curve:
    """How something changes with size: one line for each name, as (x, y) points."""

    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Goal:
    """What is to be reached: of the `ratio`, or of `ours` where there is no peer."""

    of: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Figure:
    """One line of the table: what we do, and what a peer does in the same run.

    Attributes:
        key: such as P1; with a dash where one line has several cases, as in P2c-warm.
        what: in a few words.
        unit: of `ours` and `peer`.
        peer_name: against what; empty without a peer.
        more_is_better: a speed; False for times and sizes.
        rows: what else was measured beside, each in its own unit.
        curves: at most two.
        note: a sentence or two: what limits it, what to know about the peer.
    """

    key: str
    what: str
    unit: str
    ours: Sample
    goal: Goal
    peer: Sample | None = None
    peer_name: str = ""
    more_is_better: bool = True
    rows: tuple[Row, ...] = ()
    curves: tuple[Curve, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the peer's, whichever way is better."""
        if self.peer is None:
            return None
        mine, theirs = self.ours.median, self.peer.median
        return mine / theirs if self.more_is_better else theirs / mine

    @property
    def reached(self) -> bool:
        value = self.ratio if self.goal.of == "ratio" else self.ours.median
        return value is not None and self.goal.reached(value)

    def to_json(self) -> dict[str, Any]:
        """As in `results.json`; times and rates to four digits, more would be noise."""
        return {
            "what": self.what,
            "ours": _round(self.ours.median),
            "ours_spread": [_round(each) for each in self.ours.spread],
            "peer": _round(self.peer.median) if self.peer else None,
            "peer_spread": [_round(each) for each in self.peer.spread] if self.peer else None,
            "peer_name": self.peer_name,
            "ratio": _round(self.ratio) if self.ratio is not None else None,
            "unit": self.unit,
            "more_is_better": self.more_is_better,
            "goal": {"of": self.goal.of, "is": str(self.goal)},
            "reached": self.reached,
            "rounds": len(self.ours.values),
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "median": _round(row.sample.median),
                    "spread": [_round(each) for each in row.sample.spread],
                }
                for row in self.rows
            ],
            "curves": [asdict(curve) for curve in self.curves],
            "note": self.note,
        }


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def read() -> dict[str, Any]:
    """The results so far; empty before the first run."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def merge(results: dict[str, Any], figure: Figure, machine: dict[str, str], *, quick: bool) -> dict[str, Any]:
    """The results with this one in its place; what it was measured on stays with it, for parts run apart."""
    entry = figure.to_json() | {"machine": machine, "quick": quick}
    return dict(sorted((results | {figure.key: entry}).items()))


def write(results: dict[str, Any]) -> None:
    """Keep them."""
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
