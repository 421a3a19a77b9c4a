"""*Imports by clinic*: what each clinic has handed over, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alerts import IMPORT_ALERTS, alert_list, sent_alerts
from .catalog import catalog
from .dashboard import Dashboard, Row, clinic_variable
from .panels import ALL_IS_WELL, BAD, GOOD, WARN, bars, lines, query, stat
from .verified import verified

if TYPE_CHECKING:
    from .panels import Json

_CHOSEN = 'clinic=~"$clinic"'
_HOUR = 3600


def dashboard() -> Dashboard:
    """The page."""
    return Dashboard(
        uid="clinicpacs-imports",
        title="Imports by clinic",
        description="What waits, what was stored, what failed and why, for all clinics or those chosen.",
        variables=[clinic_variable()],
        rows=[_now(), _alerts(), _flow(), _trouble(), verified(), catalog()],
    )


def _each(metric: str, how: str = "sum") -> str:
    return f"{how} by (clinic) ({metric}{{{_CHOSEN}}})"


def _files(outcome: str) -> str:
    chosen = f'{_CHOSEN},outcome="{outcome}"'
    return f"60 * sum by (clinic) (rate(importer_files_total{{{chosen}}}[$__rate_interval]))"


def _now() -> Row:
    def whole(title: str, description: str, expression: str, **more: object) -> Json:
        targets = [query(expression, instant=True)]
        return stat(title, description, targets, size=(4, 4), **more)  # type: ignore[arg-type]

    return Row(
        "Now",
        [
            whole(
                "Waiting",
                "Files in the inbox that wait to be imported.",
                f"sum(importer_waiting_files{{{_CHOSEN}}})",
            ),
            whole(
                "Oldest waiting",
                "How long the file that has waited longest has waited. The alert fires after an hour.",
                f"max(importer_oldest_waiting_seconds{{{_CHOSEN}}})",
                unit="s",
                steps=[(0, GOOD), (0.5 * _HOUR, WARN), (_HOUR, BAD)],
            ),
            whole(
                "Failed now",
                "Files in failed that nobody has put back (clinicpacs retry) or dismissed (clinicpacs"
                " dismiss).",
                f"sum(importer_failed_files{{{_CHOSEN}}})",
                steps=ALL_IS_WELL,
            ),
            whole(
                "Stuck",
                "Files that the archive does not take although it takes others. The importer goes on trying.",
                f"sum(importer_stuck_files{{{_CHOSEN}}})",
                steps=ALL_IS_WELL,
            ),
            whole(
                "Blocked",
                "Files that cannot be read, stored or moved now, for a reason shown below. They stay"
                " where they are.",
                f"sum(importer_blocked_files{{{_CHOSEN}}}) or vector(0)",
                steps=[(0, GOOD), (1, WARN)],
            ),
            whole(
                "Folders of no clinic",
                "Folders in the inbox that are named like no active clinic. Nothing in them is imported.",
                "max(importer_unknown_clinic_folders)",
                steps=[(0, GOOD), (1, WARN)],
            ),
        ],
    )


def _alerts() -> Row:
    return Row(
        "Import alerts",
        [
            alert_list(
                "Firing import alerts",
                "What fires, or will if it lasts, of the rules about importing, by clinic.",
                IMPORT_ALERTS,
                size=(12, 7),
            ),
            sent_alerts(
                "Import alerts as they are sent",
                "What Alertmanager holds of them, grouped as in its mails. A silence can be set from here.",
                IMPORT_ALERTS,
                size=(12, 7),
            ),
        ],
    )


def _flow() -> Row:
    def seconds(share: float) -> str:
        buckets = "sum by (le) (rate(importer_file_seconds_bucket[$__rate_interval]))"
        return f"histogram_quantile({share}, {buckets})"

    return Row(
        "From the inbox to the archive",
        [
            lines(
                "Stored",
                "Files a minute that the archive has confirmed.",
                [query(_files("stored"), "{{clinic}}")],
                unit="cpm",
            ),
            lines(
                "Received",
                "Bytes a second of the files that were stored.",
                [
                    query(
                        f"sum by (clinic) (rate(importer_bytes_total{{{_CHOSEN}}}[$__rate_interval]))",
                        "{{clinic}}",
                    )
                ],
                unit="Bps",
            ),
            lines(
                "Waiting",
                "Files in the inbox, by clinic.",
                [query(_each("importer_waiting_files"), "{{clinic}}")],
            ),
            lines(
                "Oldest waiting",
                "How long each clinic's oldest file has waited; the dashed line is where the alert begins.",
                [query(_each("importer_oldest_waiting_seconds", "max"), "{{clinic}}")],
                unit="s",
                steps=[(0, GOOD), (_HOUR, BAD)],
            ),
            lines(
                "From stable to stored",
                "Time from the moment a file no longer changes until it is stored, of all clinics"
                " together: half of the"
                " files, 95 and 99 of 100 were faster. A gap means that nothing was stored.",
                [query(seconds(0.5), "half"), query(seconds(0.95), "95 %"), query(seconds(0.99), "99 %")],
                unit="s",
                no_value="nothing stored in this time",
            ),
            lines(
                "Uploads in progress",
                "Files whose names say that their upload still goes on (.part, .tmp and the like).",
                [query(_each("importer_uploading_files"), "{{clinic}}")],
            ),
        ],
    )


def _trouble() -> Row:
    failed = f"sum by (reason) (increase(importer_failures_total{{{_CHOSEN}}}[$__range])) > 0"
    return Row(
        "What went wrong",
        [
            lines(
                "Failed",
                "Files a minute that could not be imported.",
                [query(_files("failed"), "{{clinic}}")],
                unit="cpm",
                size=(8, 8),
            ),
            bars(
                "Failures by reason",
                "Files that failed in the time chosen above, by the reason that their .error.json names.",
                [query(failed, "{{reason}}", instant=True)],
                decimals=0,
                steps=[(0, BAD)],
                no_value="nothing failed",
                size=(8, 8),
            ),
            bars(
                "Failed now, by clinic",
                "Files in failed that wait for a person.",
                [query(_each("importer_failed_files"), "{{clinic}}", instant=True)],
                steps=ALL_IS_WELL,
                size=(8, 8),
            ),
            lines(
                "Blocked, by reason",
                "Files that wait for something other than their turn.",
                [
                    query(
                        f"sum by (clinic, reason) (importer_blocked_files{{{_CHOSEN}}}) or vector(0)",
                        "{{clinic}} {{reason}}",
                    )
                ],
                size=(8, 8),
            ),
            lines(
                "Stuck",
                "Files that the archive does not take.",
                [query(_each("importer_stuck_files"), "{{clinic}}")],
                size=(8, 8),
            ),
            lines(
                "Archive, catalog and inbox",
                "1 while the importer can use each of them; at 0, files wait and nothing is lost.",
                [
                    query("min(importer_archive_up)", "archive"),
                    query("min(importer_catalog_up)", "catalog"),
                    query("min(importer_inbox_up)", "inbox"),
                ],
                size=(8, 8),
            ),
        ],
    )
