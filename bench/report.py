"""`docs/BENCHMARKS.md` from `bench/results.json`: what was measured, against whom, on what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE = Path(__file__).parents[1] / "docs" / "BENCHMARKS.md"
PLOTS = "images/benchmarks"

_HEAD = """# Benchmarks

Written by `make bench` from `bench/results.json`; do not edit it by hand. Ours and the peer are measured in
turn in one run on one machine, client and servers sharing its processors: read the ratios. Each figure is the
median of its rounds, with the least and the most of them beside it. No test asserts any of it.

    make bench                        # everything, about an hour
    make bench ONLY="frames lists"    # parts of it
    make bench ONLY=frames QUICK=1    # fewer rounds and less data: to see whether a change matters

A ratio says how many times better ours is than the peer, whichever way better is. The goals are ours.
"""


def render(results: Mapping[str, Any]) -> str:
    """The page."""
    lines = [_HEAD, *_summary(results)]
    for key, entry in results.items():
        lines += ["", *_section(key, entry)]
    return "\n".join([*lines, "", *_machines(results)]) + "\n"


def _summary(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| | what | ours | peer | ratio | goal | reached |"
    yield "|---|---|---|---|---|---|---|"
    for key, entry in results.items():
        peer = f"{_value(entry['peer'], entry['unit'])} ({entry['peer_name']})" if entry["peer"] else "-"
        ratio = f"{entry['ratio']:.3g}" if entry["ratio"] else "-"
        goal = f"{entry['goal']['of']} {entry['goal']['is']}"
        reached = "yes" if entry["reached"] else "no"
        ours = _value(entry["ours"], entry["unit"])
        cells = [f"[{key}](#{key.lower()})", entry["what"], ours, peer, ratio, goal, reached]
        yield f"| {' | '.join(cells)} |"


def _section(key: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {key}"
    yield ""
    yield f"{entry['what'][:1].upper()}{entry['what'][1:]}. {entry['note']}".strip()
    yield ""
    yield "| | median | least to most |"
    yield "|---|---|---|"
    yield _row("**ours**", entry["unit"], entry["ours"], entry["ours_spread"])
    if entry["peer"]:
        yield _row(entry["peer_name"], entry["unit"], entry["peer"], entry["peer_spread"])
    for row in entry["rows"]:
        yield _row(row["name"], row["unit"], row["median"], row["spread"])
    for name in plot_names(key, entry):
        yield ""
        yield f"![{entry['what']}]({PLOTS}/{name}.svg)"


def _row(name: str, unit: str, median: float, spread: list[float]) -> str:
    return f"| {name} | {_value(median, unit)} | {_number(spread[0])} to {_number(spread[1])} |"


def plot_names(key: str, entry: Mapping[str, Any]) -> list[str]:
    """The names of a figure's plots: bars where several subjects share its unit, and one for each curve."""
    bars = [key.lower()] if entry["peer"] or _alike(entry) else []
    return bars + [f"{key.lower()}-curve-{number}" for number, _ in enumerate(entry["curves"], 1)]


def _alike(entry: Mapping[str, Any]) -> list[Any]:
    return [row for row in entry["rows"] if row["unit"] == entry["unit"]]


def _machines(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Where"
    seen: list[dict[str, str]] = []
    for entry in results.values():
        if entry["machine"] not in seen:
            seen.append(entry["machine"])
    for machine in seen:
        keys = ", ".join(key for key, entry in results.items() if entry["machine"] == machine)
        quick = ", ".join(
            key for key, entry in results.items() if entry["machine"] == machine and entry["quick"]
        )
        yield ""
        yield f"{keys}: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + "."
        if quick:
            yield f"Of these with `QUICK=1`: {quick}."


def _value(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}"


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}"
