"""Writes monitoring/grafana/dashboards/*.json; `--check` only compares, and tells by 1 that they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import imports, keycloak, nginx, orthanc, overview

if TYPE_CHECKING:
    from .dashboard import Dashboard

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"


def dashboards() -> dict[str, Dashboard]:
    """All of them, by the name of their file."""
    modules = {
        "overview": overview,
        "imports": imports,
        "orthanc": orthanc,
        "keycloak": keycloak,
        "nginx": nginx,
    }
    return {f"{name}.json": module.dashboard() for name, module in modules.items()}


def text(dashboard: Dashboard) -> str:
    """The file that Grafana reads."""
    return f"{json.dumps(dashboard.json(), indent=1, ensure_ascii=False)}\n"


def main() -> int:
    """Write or compare."""
    wanted = {FOLDER / name: text(dashboard) for name, dashboard in dashboards().items()}
    if "--check" in sys.argv[1:]:
        there = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
        if there == wanted:
            return 0
        sys.stderr.write(
            "monitoring/grafana/dashboards is not as its source says: run python -m"
            " monitoring.grafana.source\n"
        )
        return 1
    for path in set(FOLDER.glob("*.json")) - set(wanted):
        path.unlink()
    for path, content in wanted.items():
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
