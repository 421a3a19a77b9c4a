"""What Grafana's dashboards ask, and whether it is answered; used by fast tests and by the end-to-end run.

asked = dashboards.without_data(stack.promql, rows=..., sources={"prometheus", "catalog"})
assert asked == []
"""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRAFANA = Path(__file__).parents[2] / "monitoring" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))

_VALUES = {
    # As Grafana computes them for a data source with timeInterval 15 s, and a dashboard that shows an hour.
    "prometheus": {"$__rate_interval": "1m", "$__range": "1h", "$clinic": ".+"},
    "loki": {"$__auto": "5m"},
    "catalog": {"$clinic": "SELECT id FROM clinics"},
}
_TIME_FILTER = re.compile(r"\$__timeFilter\(([^)]+)\)")
_UNRESOLVED = re.compile(r"\$\w+")

MAY_BE_EMPTY = {
    ("Overview", "Last backup"): "there is no backup yet",
    ("Imports by clinic", "Failures by reason"): "nothing failed",
    ("Imports by clinic", "Recent imports"): "nothing was imported",
    ("Imports by clinic", "New studies a day"): "nothing was imported",
    ("Orthanc", "Time to store an instance"): "nothing was stored since Orthanc started",
    ("Keycloak", "Sign-ins by application"): "nobody signed in",
    ("Keycloak", "Failed sign-ins by cause"): "no attempt failed",
    ("Nginx", "Refused and failed, by route"): "no request failed",
}
"""Panels that are rightly empty, and when."""


@dataclass(frozen=True)
class Query:
    """One query of one panel, its variables replaced; `source` is the uid of the data source."""

    dashboard: str
    panel: str
    source: str
    text: str

    @property
    def may_be_empty(self) -> bool:
        """Whether the panel may rightly show nothing on a young or quiet system."""
        return (self.dashboard, self.panel) in MAY_BE_EMPTY

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.text}"


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels but the headings, also those under a closed heading."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def queries() -> Iterator[Query]:
    """Every query of every panel, and those of the variables as the series that they read."""
    for path in FILES:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for panel in panels(dashboard):
            for target in panel["targets"]:
                source = target["datasource"]["uid"]
                text = resolved(source, target["rawSql" if source == "catalog" else "expr"])
                yield Query(dashboard["title"], panel["title"], source, text)
        for variable in dashboard["templating"]["list"]:
            series = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert series, variable["definition"]
            text = f"count by ({series[2]}) ({series[1]})"
            yield Query(dashboard["title"], f"${variable['name']}", variable["datasource"]["uid"], text)


def resolved(source: str, text: str) -> str:
    """A query with Grafana's variables and macros replaced."""
    for name, value in _VALUES[source].items():
        text = text.replace(name, value)
    text = _TIME_FILTER.sub(r"\1 BETWEEN now() - interval '30 days' AND now()", text)
    assert not _UNRESOLVED.search(text), f"a variable that Grafana or this module does not know: {text}"
    return text


def without_data(
    promql: Callable[[str], list[Any]],
    rows: Callable[[str], list[Any]] | None = None,
    logql: Callable[[str], list[Any]] | None = None,
) -> list[Query]:
    """The queries that find nothing and should; those of a source that nobody answers here are left out.

    `promql` answers an instant query by its result, `rows` a SELECT (as the role `monitor`) by its rows.
    """
    answers = {"prometheus": promql, "catalog": rows, "loki": logql}
    found = []
    for query in queries():
        ask = answers[query.source]
        if ask and not ask(query.text) and not query.may_be_empty:
            found.append(query)
    return found


def prometheus(url: str) -> Callable[[str], list[Any]]:
    """Asks a Prometheus; a query that it refuses raises urllib.error.HTTPError."""

    def ask(query: str) -> list[Any]:
        parameters = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}", timeout=20) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return result

    return ask


def catalog(conninfo: str) -> Callable[[str], list[Any]]:
    """Asks a catalog on PostgreSQL, with a connection of its own for each question."""

    def ask(statement: str) -> list[Any]:
        with psycopg.connect(conninfo) as connection:
            return connection.execute(statement).fetchall()

    return ask


_IGNORED = re.compile(
    r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\b\d+[smhdwy]\b"
)
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


def metrics(expression: str) -> set[str]:
    """The names of the metrics in an expression of PromQL."""
    bare = _IGNORED.sub(" ", re.sub(r'"(?:[^"\\]|\\.)*"', "", expression))
    names = set(re.findall(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()", bare))
    return names - _WORDS
