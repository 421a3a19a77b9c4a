"""*Overview*: the page that Grafana opens with. Is everything up, does anything wait for a person?"""

from __future__ import annotations

from .alerts import alert_list, sent_alerts
from .dashboard import Dashboard, Row
from .panels import BAD, CALM, GOOD, UP, WARN, bars, lines, query, stat

_DAY = 24 * 3600


def dashboard() -> Dashboard:
    """The page."""
    return Dashboard(
        uid="clinicpacs-overview",
        title="Overview",
        description="Whether the platform works, and what waits for a person.",
        rows=[_now(), _alerts(), _flow(), _machine()],
    )


def _now() -> Row:
    firing = 'count(ALERTS{alertstate="firing"}) or vector(0)'
    return Row(
        "Now",
        [
            stat(
                "Firing alerts",
                "Alerts that fire now, by Prometheus' rules. Each has a page in the troubleshooting guide.",
                [query(firing, instant=True)],
                steps=[(0, GOOD), (1, BAD)],
                size=(3, 4),
            ),
            stat(
                "Viewer",
                "Whether the page that physicians open answers, asked through nginx.",
                [query('probe_success{probe="viewer"}', "viewer", instant=True)],
                up=True,
                size=(3, 4),
            ),
            stat(
                "Sign-in",
                "Whether Keycloak answers for the platform's realm.",
                [query('probe_success{probe="identity"}', "sign-in", instant=True)],
                up=True,
                size=(3, 4),
            ),
            stat(
                "Archive",
                "Whether the importer can store into the archive.",
                [query("min(importer_archive_up)", "archive", instant=True)],
                up=True,
                size=(3, 4),
            ),
            stat(
                "Failed files",
                "Files of all clinics that could not be imported and that nobody has dismissed yet.",
                [query("sum(importer_failed_files)", instant=True)],
                steps=[(0, GOOD), (1, BAD)],
                size=(3, 4),
            ),
            stat(
                "Waiting files",
                "Files of all clinics in the inbox that wait to be imported.",
                [query("sum(importer_waiting_files)", instant=True)],
                size=(3, 4),
            ),
            stat(
                "Last backup",
                "Time since the last backup that was complete.",
                [query("time() - max(clinicpacs_backup_last_success_timestamp_seconds)", instant=True)],
                unit="s",
                steps=[(0, GOOD), (25 * 3600, WARN), (26 * 3600, BAD)],
                no_value="no backup yet",
                size=(3, 4),
            ),
            stat(
                "Certificate",
                "Time until the certificate of the platform's address expires.",
                [query('min(probe_ssl_earliest_cert_expiry{probe="viewer"}) - time()', instant=True)],
                unit="s",
                steps=[(0, BAD), (14 * _DAY, WARN), (21 * _DAY, GOOD)],
                size=(3, 4),
            ),
        ],
    )


def _alerts() -> Row:
    return Row(
        "Alerts",
        [
            alert_list(
                "Alerts by rule",
                "What fires, or will if it lasts, by Prometheus' rules; also what is silenced.",
                size=(12, 8),
            ),
            sent_alerts(
                "Alerts as they are sent",
                "What Alertmanager holds, grouped as in its mails. A silence can be set from here.",
                size=(12, 8),
            ),
        ],
    )


def _flow() -> Row:
    return Row(
        "Use",
        [
            lines(
                "Files imported",
                "Files a minute that became part of the archive, failed, or were skipped as no images.",
                [
                    query(
                        "60 * sum by (outcome) (rate(importer_files_total[$__rate_interval]))", "{{outcome}}"
                    )
                ],
                unit="cpm",
                size=(8, 8),
            ),
            lines(
                "Requests",
                "Requests a second that viewers make, by the status they were answered with.",
                [query("sum by (status) (rate(gateway_requests_total[$__rate_interval]))", "{{status}}")],
                unit="reqps",
                size=(8, 8),
            ),
            lines(
                "Sign-ins",
                "People who signed in, and attempts that failed, in each ten minutes.",
                [
                    query(_sign_ins('error=""'), "signed in"),
                    query(_sign_ins('error!=""'), "failed"),
                ],
                bars=True,
                size=(8, 8),
            ),
        ],
    )


def _sign_ins(outcome: str) -> str:
    selector = f'keycloak_user_events_total{{realm="clinicpacs",event="login",{outcome}}}'
    return f"sum(increase({selector}[10m])) or vector(0)"


def _machine() -> Row:
    real = 'fstype!~"tmpfs|overlay|squashfs|ramfs|nsfs|fuse.*"'
    disk = f"max by (device) (node_filesystem_avail_bytes{{{real}}} / node_filesystem_size_bytes{{{real}}})"
    busy = '1 - avg(rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'
    return Row(
        "Machine",
        [
            bars(
                "Services",
                "Whether each part answers Prometheus: 1 is up.",
                [query("min by (job) (up)", "{{job}}", instant=True)],
                steps=UP,
                size=(8, 9),
            ),
            bars(
                "Free disk space",
                "Share of each disk that is free. The alert DiskSpaceLow fires below 20 %.",
                [query(disk, "{{device}}", instant=True)],
                unit="percentunit",
                steps=[(0, BAD), (0.2, WARN), (0.3, GOOD)],
                size=(8, 9),
            ),
            lines(
                "Processor and memory",
                "Share of the machine's processors and memory in use.",
                [
                    query(busy, "processors"),
                    query("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "memory"),
                ],
                unit="percentunit",
                steps=[(0, CALM), (0.9, BAD)],
                size=(8, 9),
            ),
        ],
    )
