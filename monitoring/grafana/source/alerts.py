"""Panels that list alerts: as Prometheus' rules say, and as Alertmanager sends them."""

from __future__ import annotations

from .panels import PROMETHEUS, Json, panel

ALERTMANAGER: Json = {"type": "alertmanager", "uid": "alertmanager"}

IMPORT_ALERTS = (
    "DICOMImportFailed",
    "ImportBacklogOld",
    "ImportStuck",
    "BlockedFiles",
    "UnreadableFolders",
    "UnknownClinicFolder",
    "StrayFiles",
    "InboxGone",
    "ArchiveLacksFiles",
    "VerificationTooOld",
    "ArchiveAltersImages",
    "StudyChangeUnfinished",
    "ImporterDown",
    "ImporterErrors",
    "ArchiveUnreachable",
    "CatalogUnreachable",
)
"""Every alert about importing: those of monitoring/prometheus/rules/imports.yml."""


def alert_list(
    title: str, description: str, names: tuple[str, ...] = (), *, size: tuple[int, int] = (12, 8)
) -> Json:
    """Alerts that fire or are about to, as Prometheus' rules say; all, or those of these names.

    The panel reads rules from what evaluates them, so never from Alertmanager: `sent_alerts` does.
    """
    options: Json = {
        "viewMode": "list",
        "groupMode": "default",
        "groupBy": [],
        "maxItems": 50,
        "sortOrder": 3,
        "dashboardAlerts": False,
        "alertName": "",
        "alertInstanceLabelFilter": _by_name(names),
        "datasource": "Prometheus",
        "showInactiveAlerts": False,
        "stateFilter": {
            "firing": True,
            "pending": True,
            "recovering": True,
            "error": True,
            "noData": False,
            "normal": False,
        },
    }
    made = panel("alertlist", title, description, [], size=size, options=options)
    return made | {"datasource": PROMETHEUS}


def sent_alerts(
    title: str, description: str, names: tuple[str, ...] = (), *, size: tuple[int, int] = (12, 8)
) -> Json:
    """What Alertmanager holds, grouped as in its mails, with silences; all, or those of these names."""
    options: Json = {"alertmanager": "Alertmanager", "expandAll": True, "labels": _by_name(names)}
    made = panel("alertGroups", title, description, [], size=size, options=options)
    return made | {"datasource": ALERTMANAGER}


def _by_name(names: tuple[str, ...]) -> str:
    return f'{{alertname=~"{"|".join(names)}"}}' if names else ""
