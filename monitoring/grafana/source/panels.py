"""Panels of Grafana's dashboard model (schemaVersion 41), as the dictionaries that its JSON files hold.

A panel names its size as (columns of 24, rows of 30 pixels); `dashboard.py` finds its place.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
LOKI: Json = {"type": "loki", "uid": "loki"}
CATALOG: Json = {"type": "grafana-postgresql-datasource", "uid": "catalog"}

GOOD, WARN, BAD, CALM = "green", "orange", "red", "blue"
ALL_IS_WELL: list[tuple[float, str]] = [(0, GOOD), (1, BAD)]
"""For a count that should be 0."""
UP: list[tuple[float, str]] = [(0, BAD), (1, GOOD)]
"""For a value that is 1 when it works."""
_UP_TEXTS = [
    {
        "type": "value",
        "options": {
            "0": {"text": "down", "color": BAD, "index": 0},
            "1": {"text": "up", "color": GOOD, "index": 1},
        },
    }
]


def query(expression: str, legend: str = "", *, instant: bool = False, table: bool = False) -> Json:
    """A query of Prometheus; `instant` for one value now instead of a line."""
    made: Json = {"datasource": PROMETHEUS, "expr": expression, "legendFormat": legend or "__auto"}
    if instant:
        made |= {"instant": True, "range": False}
    if table:
        made["format"] = "table"
    return made


def logs_query(expression: str, legend: str = "") -> Json:
    """A query of Loki, in LogQL."""
    return {"datasource": LOKI, "expr": expression, "legendFormat": legend, "queryType": "range"}


def sql(statement: str, *, over_time: bool = False) -> Json:
    """A query of the catalog, with the rights of the role `monitor`."""
    return {
        "datasource": CATALOG,
        "editorMode": "code",
        "rawQuery": True,
        "rawSql": statement,
        "format": "time_series" if over_time else "table",
    }


def thresholds(steps: list[tuple[float, str]]) -> Json:
    """Colours from a value on; the first one's colour also holds below it."""
    first, *others = steps
    return {
        "mode": "absolute",
        "steps": [
            {"value": None, "color": first[1]},
            *({"value": value, "color": colour} for value, colour in others),
        ],
    }


def panel(
    kind: str, title: str, description: str, targets: list[Json], *, size: tuple[int, int], options: Json
) -> Json:
    """A panel of some kind; those below know theirs."""
    named = [{"refId": chr(ord("A") + index), **target} for index, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": named[0]["datasource"] if named else None,
        "targets": named,
        "gridPos": {"w": size[0], "h": size[1]},
        "options": options,
    }


def stat(
    title: str,
    description: str,
    targets: list[Json],
    *,
    steps: list[tuple[float, str]] | None = None,
    unit: str = "short",
    decimals: int | None = None,
    no_value: str = "no data yet",
    up: bool = False,
    size: tuple[int, int] = (4, 4),
) -> Json:
    """A number now, on a ground of its colour; `up` writes up and down instead of 1 and 0."""
    defaults: Json = {
        "unit": unit,
        "noValue": no_value,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(UP if up else steps or [(0, CALM)]),
        "mappings": _UP_TEXTS if up else [],
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    made = panel("stat", title, description, targets, size=size, options=options)
    return made | {"fieldConfig": {"defaults": defaults, "overrides": []}}


def lines(
    title: str,
    description: str,
    targets: list[Json],
    *,
    unit: str = "short",
    steps: list[tuple[float, str]] | None = None,
    stacked: bool = False,
    bars: bool = False,
    no_value: str = "no data yet",
    size: tuple[int, int] = (12, 8),
) -> Json:
    """Values over time, with a legend that tells the last and the largest; lines are drawn at `steps`."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 12,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    defaults: Json = {"unit": unit, "min": 0, "noValue": no_value, "custom": custom}
    if steps:
        defaults["thresholds"] = thresholds(steps)
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    made = panel("timeseries", title, description, targets, size=size, options=options)
    return made | {"fieldConfig": {"defaults": defaults, "overrides": []}}


def bars(
    title: str,
    description: str,
    targets: list[Json],
    *,
    unit: str = "short",
    steps: list[tuple[float, str]] | None = None,
    decimals: int | None = None,
    no_value: str = "none",
    size: tuple[int, int] = (12, 8),
) -> Json:
    """One horizontal bar for each series, as it is now."""
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "noValue": no_value,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(steps or [(0, CALM)]),
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    made = panel("bargauge", title, description, targets, size=size, options=options)
    return made | {"fieldConfig": {"defaults": defaults, "overrides": []}}


def table(
    title: str,
    description: str,
    targets: list[Json],
    *,
    units: dict[str, str] | None = None,
    coloured: dict[str, list[tuple[float, str]]] | None = None,
    renamed: dict[str, str] | None = None,
    no_value: str = "none",
    size: tuple[int, int] = (24, 9),
) -> Json:
    """Rows; `units` and `coloured` (a cell's ground by its value) are by column, before it is renamed."""
    renamed, coloured = renamed or {}, coloured or {}
    overrides: list[Json] = []
    for column in dict.fromkeys([*(units or {}), *coloured]):
        properties: list[Json] = []
        if column in (units or {}):
            properties.append({"id": "unit", "value": (units or {})[column]})
        if column in coloured:
            properties.append({"id": "thresholds", "value": thresholds(coloured[column])})
            properties.append(
                {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}}
            )
        matcher = {"id": "byName", "options": renamed.get(column, column)}
        overrides.append({"matcher": matcher, "properties": properties})
    made = panel(
        "table", title, description, targets, size=size, options={"showHeader": True, "cellHeight": "sm"}
    )
    organize = {"excludeByName": {}, "renameByName": renamed}
    return made | {
        "fieldConfig": {
            "defaults": {"noValue": no_value, "custom": {"filterable": True}},
            "overrides": overrides,
        },
        "transformations": [{"id": "organize", "options": organize}],
    }


def logs(title: str, description: str, expression: str, *, size: tuple[int, int] = (24, 10)) -> Json:
    """Log lines from Loki, newest first."""
    options = {
        "showTime": True,
        "showLabels": False,
        "wrapLogMessage": True,
        "prettifyLogMessage": False,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    }
    return panel("logs", title, description, [logs_query(expression)], size=size, options=options)
