"""A whole dashboard: rows of panels, put side by side from left to right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .panels import PROMETHEUS

if TYPE_CHECKING:
    from .panels import Json

_COLUMNS = 24


@dataclass(frozen=True)
class Row:
    """Panels under one heading; `collapsed` ones are drawn, and their queries run, only when it is opened."""

    title: str
    panels: list[Json]
    collapsed: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One page. `uid` is its address, so it must never change; `time` is the range it opens with."""

    uid: str
    title: str
    description: str
    rows: list[Row]
    time: str = "now-6h"
    refresh: str = "30s"
    variables: list[Json] = field(default_factory=list)

    def json(self) -> Json:
        """As Grafana's file provisioning reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["clinicpacs"],
            "schemaVersion": 41,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": self.time, "to": "now"},
            "refresh": self.refresh,
            "timepicker": {"refresh_intervals": ["15s", "30s", "1m", "5m", "15m"]},
            "annotations": {"list": []},
            "templating": {"list": self.variables},
            "links": [_links_to_the_others()],
            "panels": self._placed(),
        }

    def _placed(self) -> list[Json]:
        placed: list[Json] = []
        y = 0
        for row in self.rows:
            heading: Json = {"type": "row", "title": row.title, "collapsed": row.collapsed, "panels": []}
            placed.append(heading | {"gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1}})
            panels, y = _side_by_side(row.panels, y + 1)
            if row.collapsed:
                placed[-1]["panels"] = panels
            else:
                placed.extend(panels)
        return _numbered(placed)


def _side_by_side(panels: list[Json], y: int) -> tuple[list[Json], int]:
    placed, x, height = [], 0, 0
    for panel in panels:
        size = panel["gridPos"]
        if x + size["w"] > _COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append(panel | {"gridPos": {"x": x, "y": y, **size}})
        x += size["w"]
        height = max(height, size["h"])
    return placed, y + height


def _numbered(panels: list[Json]) -> list[Json]:
    number = 0
    for panel in panels:
        for each in (panel, *panel.get("panels", [])):
            number += 1
            each["id"] = number
    return panels


def _links_to_the_others() -> Json:
    return {
        "type": "dashboards",
        "title": "Dashboards",
        "tags": ["clinicpacs"],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def clinic_variable() -> Json:
    """`$clinic`: one, several or all of the clinics that the importer knows."""
    everything: dict[str, Any] = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "type": "query",
        "name": "clinic",
        "label": "Clinic",
        "description": "The clinics that the importer knows; several can be chosen.",
        "datasource": PROMETHEUS,
        "definition": "label_values(importer_waiting_files, clinic)",
        "query": {
            "qryType": 1,
            "query": "label_values(importer_waiting_files, clinic)",
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        "multi": True,
        "includeAll": True,
        "current": everything,
        "options": [],
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "skipUrlSync": False,
    }
