"""*Nginx*: its connections and requests, latency as users meet it, status as the gateway answered."""

from __future__ import annotations

from .dashboard import Dashboard, Row
from .panels import BAD, CALM, GOOD, WARN, bars, lines, logs, logs_query, query, stat

_DAY = 24 * 3600
_FIELDS = 'json status="status", route="route", seconds="seconds"'
_LOG = f'{{service="nginx", stream="stdout"}} | {_FIELDS} | __error__=""'


def dashboard() -> Dashboard:
    """The page."""
    return Dashboard(
        uid="clinicpacs-nginx",
        title="Nginx",
        description="Requests, latency and status, from the web server to the gateway behind it.",
        rows=[_now(), _requests(), _latency(), _status(), _access_log()],
    )


def _now() -> Row:
    return Row(
        "Now",
        [
            stat(
                "Viewer",
                "Whether the page that physicians open answers.",
                [query('probe_success{probe="viewer"}', "viewer", instant=True)],
                up=True,
                size=(4, 4),
            ),
            stat(
                "Status",
                "HTTP status of that page; 200 is right.",
                [query('probe_http_status_code{probe="viewer"}', instant=True)],
                unit="none",
                steps=[(0, BAD), (200, GOOD), (300, WARN), (400, BAD)],
                size=(4, 4),
            ),
            stat(
                "Answer time",
                "Time for that page, from the name's look-up to the last byte.",
                [query('probe_duration_seconds{probe="viewer"}', instant=True)],
                unit="s",
                steps=[(0, GOOD), (1, WARN), (3, BAD)],
                size=(4, 4),
            ),
            stat(
                "Connections",
                "Connections that are open now, idle ones included.",
                [query("max(nginx_connections_active)", instant=True)],
                size=(4, 4),
            ),
            stat(
                "Requests",
                "Requests a second, over the last five minutes.",
                [query("sum(rate(nginx_http_requests_total[5m]))", instant=True)],
                unit="reqps",
                size=(4, 4),
            ),
            stat(
                "Certificate",
                "Time until the certificate expires. The alert fires at 14 days.",
                [query('min(probe_ssl_earliest_cert_expiry{probe="viewer"}) - time()', instant=True)],
                unit="s",
                steps=[(0, BAD), (14 * _DAY, WARN), (21 * _DAY, GOOD)],
                size=(4, 4),
            ),
        ],
    )


def _requests() -> Row:
    def rate(what: str) -> str:
        return f"rate(nginx_connections_{what}[$__rate_interval])"

    dropped = f"sum({rate('accepted')} - {rate('handled')})"
    return Row(
        "Requests",
        [
            lines(
                "Requests",
                "Requests a second, all of them: viewer, images, sign-in, dashboards.",
                [query("sum(rate(nginx_http_requests_total[$__rate_interval]))", "requests")],
                unit="reqps",
                size=(8, 8),
            ),
            lines(
                "Connections",
                "Open connections: reading a request, writing an answer, or idle and kept for the next"
                " request.",
                [
                    query("sum(nginx_connections_reading)", "reading"),
                    query("sum(nginx_connections_writing)", "writing"),
                    query("sum(nginx_connections_waiting)", "idle"),
                ],
                stacked=True,
                size=(8, 8),
            ),
            lines(
                "Dropped connections",
                "Connections a second that were accepted and then dropped for want of resources; should"
                " be 0.",
                [query(f"clamp_min({dropped}, 0)", "dropped")],
                unit="cps",
                size=(8, 8),
            ),
        ],
    )


def _latency() -> Row:
    def gateway(share: float, by: str = "le") -> str:
        buckets = f"sum by ({by}) (rate(gateway_request_seconds_bucket[$__rate_interval]))"
        return f"histogram_quantile({share}, {buckets})"

    return Row(
        "Latency",
        [
            lines(
                "The viewer's page, by phase",
                "Where the time goes when the page is asked for from outside of nginx: connect, TLS,"
                " processing, transfer.",
                [query('avg by (phase) (probe_http_duration_seconds{probe="viewer"})', "{{phase}}")],
                unit="s",
                stacked=True,
                size=(8, 8),
            ),
            lines(
                "The gateway's answers",
                "Time until an answer's first byte is ready: half of them, 95 and 99 of 100 were faster.",
                [query(gateway(0.5), "half"), query(gateway(0.95), "95 %"), query(gateway(0.99), "99 %")],
                unit="s",
                no_value="nobody asked in this time",
                size=(8, 8),
            ),
            lines(
                "The gateway's answers, by route",
                "95 of 100 answers of each route were faster.",
                [query(gateway(0.95, "le, route"), "{{route}}")],
                unit="s",
                no_value="nobody asked in this time",
                size=(8, 8),
            ),
        ],
    )


def _status() -> Row:
    errors = 'sum by (route, status) (increase(gateway_requests_total{status=~"4..|5.."}[$__range])) > 0'
    return Row(
        "Status",
        [
            lines(
                "Answers by status",
                "The gateway's answers a second, by their HTTP status.",
                [query("sum by (status) (rate(gateway_requests_total[$__rate_interval]))", "{{status}}")],
                unit="reqps",
                stacked=True,
                size=(8, 8),
            ),
            bars(
                "Refused and failed, by route",
                "Answers of 400 and more in the time chosen above. 401 is an access token that ran out"
                " and is renewed.",
                [query(errors, "{{route}} {{status}}", instant=True)],
                decimals=0,
                steps=[(0, CALM), (100, WARN), (1000, BAD)],
                size=(8, 8),
            ),
            lines(
                "Refused for who is asking",
                "Requests a minute that the gateway refused, by reason: no or bad tokens, no clinic,"
                " another's study.",
                [query("60 * sum by (reason) (rate(gateway_denied_total[$__rate_interval]))", "{{reason}}")],
                unit="cpm",
                size=(8, 8),
            ),
        ],
    )


def _access_log() -> Row:
    by_status = f"sum by (status) (rate({_LOG} [$__auto]))"
    slow = f'quantile_over_time(0.95, {_LOG} | unwrap seconds | __error__="" [$__auto]) by (route)'
    return Row(
        "Access log (from Loki)",
        [
            lines(
                "All answers by status",
                "Every answer of nginx a second, with those that never reach the gateway: files,"
                " sign-in, redirects.",
                [logs_query(by_status, "{{status}}")],
                unit="reqps",
                stacked=True,
            ),
            lines(
                "Answer time by route",
                "95 of 100 answers were complete within this time; large images on slow lines count, too.",
                [logs_query(slow, "{{route}}")],
                unit="s",
            ),
            logs(
                "Errors",
                "Lines of the access log with a status of 500 or more. They name the route, never the"
                " path or the query.",
                f"{_LOG} | status >= 500",
            ),
        ],
        collapsed=True,
    )
