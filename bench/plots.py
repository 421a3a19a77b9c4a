"""The plots of `docs/BENCHMARKS.md`, as SVG; the same results give the same files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from bench.report import PLOTS, plot_names

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "clinicpacs"
mpl.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot as plt  # noqa: E402 - after its backend is chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

FOLDER = Path(__file__).parents[1] / "docs" / PLOTS
_OURS, _OTHERS = "#1f6feb", "#8b949e"


def draw(key: str, entry: Mapping[str, Any]) -> None:
    """Draw the plots of one figure, in place of its earlier ones."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob(f"{key.lower()}.svg"), FOLDER.glob(f"{key.lower()}-curve-*.svg"):
        for path in old:
            path.unlink()
    names = plot_names(key, entry)
    curves = dict(zip(reversed(names), reversed(entry["curves"]), strict=False))
    for name in names:
        figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
        if name in curves:
            _curve(axes, curves[name])
        else:
            _bars(axes, entry)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _bars(axes: Axes, entry: Mapping[str, Any]) -> None:
    bars = [("ours", entry["ours"], entry["ours_spread"])]
    if entry["peer"]:
        bars.append((entry["peer_name"], entry["peer"], entry["peer_spread"]))
    bars += [
        (row["name"], row["median"], row["spread"]) for row in entry["rows"] if row["unit"] == entry["unit"]
    ]
    names = [name for name, _, _ in bars]
    values = [value for _, value, _ in bars]
    errors = [[value - low for _, value, (low, _) in bars], [high - value for _, value, (_, high) in bars]]
    axes.barh(names, values, xerr=errors, color=[_OURS, *[_OTHERS] * (len(bars) - 1)], height=0.6)
    axes.invert_yaxis()
    axes.set_xlabel(entry["unit"])


def _curve(axes: Axes, curve: Mapping[str, Any]) -> None:
    for name, points in curve["lines"].items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    sizes = [x for points in curve["lines"].values() for x, _ in points]
    values = [y for points in curve["lines"].values() for _, y in points]
    if min(sizes) > 0 and max(sizes) / min(sizes) >= 50:
        axes.set_xscale("log")
    if min(values) > 0 and max(values) / min(values) >= 50:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(curve["x"])
    axes.set_ylabel(curve["y"])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
