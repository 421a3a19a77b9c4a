"""`make bench`: our three paths against what a user would pick instead, side by side on this machine.

Starts what it needs (Orthanc, nginx, PostgreSQL, our own services), measures, writes bench/results.json and
from it docs/BENCHMARKS.md with its plots. A part that was not asked for keeps its last figures.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench import figures, machine, plots, report
from bench.options import Options

PARTS = {
    "import": "importing",
    "large": "large_files",
    "inbox": "inbox",
    "frames": "frames",
    "opening": "opening",
    "lists": "listing",
    "growth": "growth",
    "reindex": "reindexing",
    "importers": "importers",
    "flood": "flood",
}
"""What may be asked for by ONLY, and its module in `bench.parts`."""


@click.command(help=__doc__)
@click.option("--only", default="", help=f"Parts, separated by spaces: {', '.join(PARTS)}.")
@click.option("--quick", is_flag=True, help="Fewer rounds and less data.")
@click.option("--keep", is_flag=True, help="Leave the folder that the servers worked in.")
def main(only: str, *, quick: bool, keep: bool) -> None:
    """Run what was asked for."""
    # The servers end with their blocks, also when somebody ends the measurement.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    wanted = only.split() or list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise click.UsageError(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    here = machine.describe()
    for name in wanted:
        folder = Path(tempfile.mkdtemp(prefix=f"clinicpacs-bench-{name}-"))
        console.rule(name)
        try:
            options = Options(folder, quick=quick, say=console.print)
            for figure in import_module(f"bench.parts.{PARTS[name]}").run(options):
                _keep(figure, here, quick=quick)
                console.print(_told(figure))
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def _keep(figure: figures.Figure, here: dict[str, str], *, quick: bool) -> None:
    # At once: a later part that fails must not cost what was measured.
    results = figures.merge(figures.read(), figure, here, quick=quick)
    figures.write(results)
    plots.draw(figure.key, results[figure.key])
    report.PAGE.write_text(report.render(results))


def _told(figure: figures.Figure) -> str:
    told = f"{figure.key}  {figure.what}: {figure.ours.median:.4g} {figure.unit}"
    if figure.peer is not None:
        told += f", {figure.peer_name} {figure.peer.median:.4g}: ratio {figure.ratio:.3g}"
    for row in figure.rows:
        told += f"\n      {row.name}: {row.sample.median:.4g} {row.unit}"
    return (
        f"{told}\n      goal {figure.goal.of} {figure.goal}: {'reached' if figure.reached else 'not reached'}"
    )


if __name__ == "__main__":
    main()
