"""What the catalog tells of the clinics chosen on the page."""

from __future__ import annotations

from .dashboard import Row
from .panels import CALM, WARN, lines, sql, table

_RECENT = """\
SELECT i.finished_at, c.name AS clinic, i.outcome, i.reason, i.files, i.bytes, i.id
FROM imports AS i JOIN clinics AS c ON c.id = i.clinic_id
WHERE i.clinic_id IN ($clinic) AND $__timeFilter(i.finished_at)
ORDER BY i.finished_at DESC, i.id DESC
LIMIT 200"""
_OWNED = """\
SELECT c.name AS clinic, c.active, count(s.clinic_id) AS studies,
  count(s.clinic_id) FILTER (WHERE s.state = 'provisional') AS provisional,
  count(s.clinic_id) FILTER (WHERE s.state = 'missing') AS missing,
  coalesce(sum(s.series_count), 0) AS series, coalesce(sum(s.instance_count), 0) AS instances,
  max(s.changed_at) AS changed_at
FROM clinics AS c LEFT JOIN studies AS s ON s.clinic_id = c.id AND s.state <> 'deleted'
WHERE c.id IN ($clinic)
GROUP BY c.id, c.name, c.active
ORDER BY c.name"""
_PER_DAY = """\
SELECT date_trunc('day', reserved_at) AS time, clinic_id AS metric, count(*) AS studies
FROM studies
WHERE clinic_id IN ($clinic) AND state <> 'deleted' AND $__timeFilter(reserved_at)
GROUP BY 1, 2
ORDER BY 1"""


def catalog() -> Row:
    """The latest imports, and what each clinic owns."""
    return Row(
        "From the catalog",
        [
            table(
                "Recent imports",
                "The latest 200 imports of the time chosen above: one row for each study folder and"
                " outcome, one for"
                " each failed file. Folder names are left out, for they may name patients: clinicpacs"
                " status and the"
                " failed folder tell which file it is.",
                [sql(_RECENT)],
                units={"bytes": "bytes", "files": "none"},
                renamed={"finished_at": "finished", "id": "import"},
                no_value="",
                size=(24, 10),
            ),
            table(
                "Studies of each clinic",
                "Studies that each clinic owns. Provisional: the archive has not confirmed any of its"
                " images yet."
                " Missing: the archive no longer lists the study.",
                [sql(_OWNED)],
                coloured={
                    "provisional": [(0, "transparent"), (1, CALM)],
                    "missing": [(0, "transparent"), (1, WARN)],
                },
                renamed={"changed_at": "last change"},
                size=(12, 9),
            ),
            lines(
                "New studies a day",
                "Studies by the day of their first file, in UTC. Choose a longer time above to see more"
                " days.",
                [sql(_PER_DAY, over_time=True)],
                bars=True,
                stacked=True,
                no_value="no study in this time",
                size=(12, 9),
            ),
        ],
    )
