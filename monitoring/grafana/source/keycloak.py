"""*Keycloak*: who signs in, how many are, and what fails.

Its event counters begin with their first event, not at 0: sums of them are `or vector(0)`.
"""

from __future__ import annotations

from .dashboard import Dashboard, Row
from .panels import BAD, GOOD, WARN, bars, lines, query, stat


def dashboard() -> Dashboard:
    """The page."""
    return Dashboard(
        uid="clinicpacs-keycloak",
        title="Keycloak",
        description="Sign-ins, sessions and failures of the platform's realm.",
        time="now-24h",
        rows=[_now(), _sign_ins(), _failures(), _server()],
    )


def _events(condition: str, by: str = "", over: str = "$__rate_interval") -> str:
    total = f'increase(keycloak_user_events_total{{realm="clinicpacs",{condition}}}[{over}])'
    return f"sum by ({by}) ({total})" if by else f"sum({total}) or vector(0)"


_FAILED = 'event="login",error!=""'
_LOCKED = 'event="login",error=~"user_temporarily_disabled|user_disabled"'


def _now() -> Row:
    sessions = 'max(vendor_statistics_approximate_entries_unique{cache="sessions"})'
    return Row(
        "Now",
        [
            stat(
                "Sign-in",
                "Whether Keycloak answers for the platform's realm, asked from outside of it.",
                [query('probe_success{probe="identity"}', "Keycloak", instant=True)],
                up=True,
                size=(4, 4),
            ),
            stat(
                "Sessions",
                "People who are signed in, as far as Keycloak holds their sessions in memory: after its"
                " restart, a"
                " session counts again when it is used.",
                [query(f"clamp_min({sessions}, 0)", instant=True)],
                size=(5, 4),
            ),
            stat(
                "Signed in",
                "Sign-ins in the time chosen above.",
                [query(_events('event="login",error=""', over="$__range"), instant=True)],
                decimals=0,
                size=(5, 4),
            ),
            stat(
                "Failed",
                "Attempts to sign in that failed, in the time chosen above.",
                [query(_events(_FAILED, over="$__range"), instant=True)],
                decimals=0,
                steps=[(0, GOOD), (50, WARN), (500, BAD)],
                size=(5, 4),
            ),
            stat(
                "Locked out",
                "Attempts in the time chosen above with a user that was locked, mostly after too many"
                " wrong passwords.",
                [query(_events(_LOCKED, over="$__range"), instant=True)],
                decimals=0,
                steps=[(0, GOOD), (1, WARN)],
                size=(5, 4),
            ),
        ],
    )


def _sign_ins() -> Row:
    return Row(
        "Logins and sessions",
        [
            lines(
                "Sign-ins and sign-outs",
                "In each ten minutes.",
                [
                    query(_events('event="login",error=""', over="10m"), "sign-ins"),
                    query(_events('event="logout",error=""', over="10m"), "sign-outs"),
                ],
                bars=True,
                size=(8, 8),
            ),
            lines(
                "Sessions",
                "People who are signed in, and sign-in pages that are open.",
                [
                    query('max(vendor_statistics_approximate_entries_unique{cache="sessions"})', "signed in"),
                    query(
                        "clamp_min(max(vendor_statistics_approximate_entries_unique"
                        '{cache="authenticationSessions"}), 0)',
                        "sign-in pages",
                    ),
                ],
                size=(8, 8),
            ),
            bars(
                "Sign-ins by application",
                "In the time chosen above: ohif-viewer is the viewer, grafana and orthanc-explorer the"
                " administrators'.",
                [
                    query(
                        _events('event="login",error=""', "client_id", "$__range"),
                        "{{client_id}}",
                        instant=True,
                    )
                ],
                decimals=0,
                no_value="nobody signed in",
                size=(8, 8),
            ),
            lines(
                "Token renewals",
                "Renewed access tokens in each ten minutes, and renewals that were refused (a session"
                " had ended).",
                [
                    query(_events('event="refresh_token",error=""', over="10m"), "renewed"),
                    query(_events('event="refresh_token",error!=""', over="10m"), "refused"),
                ],
                bars=True,
                size=(12, 7),
            ),
            lines(
                "Services' own sign-ins",
                "Tokens that scripts and services fetched for themselves, in each ten minutes.",
                [
                    query(_events('event="client_login",error=""', over="10m"), "fetched"),
                    query(_events('event="client_login",error!=""', over="10m"), "refused"),
                ],
                bars=True,
                size=(12, 7),
            ),
        ],
    )


def _failures() -> Row:
    wrong = 'keycloak_credentials_password_hashing_validations_total{realm="clinicpacs",outcome="invalid"}'
    return Row(
        "Failures",
        [
            lines(
                "Failed sign-ins by cause",
                "Attempts to sign in that failed, in each ten minutes; invalid_user_credentials is a"
                " wrong password.",
                [query(_events(_FAILED, "error", "10m"), "{{error}}")],
                bars=True,
                stacked=True,
                no_value="none",
                size=(12, 8),
            ),
            lines(
                "Wrong passwords",
                "Passwords that were checked and were wrong, in each ten minutes: many may be an attack.",
                [query(f"sum(increase({wrong}[10m])) or vector(0)", "wrong passwords")],
                bars=True,
                size=(12, 8),
            ),
        ],
    )


def _server() -> Row:
    def requests(what: str) -> str:
        asked = 'job="keycloak",uri!~"/auth/(metrics|health.*)"'
        return f"sum(rate(http_server_requests_seconds_{what}{{{asked}}}[5m]))"

    def memory(what: str) -> str:
        return f'sum(jvm_memory_{what}_bytes{{job="keycloak",area="heap"}})'

    return Row(
        "Server",
        [
            lines(
                "Requests",
                "Requests a second by the class of their answer.",
                [
                    query(
                        "sum by (outcome) (rate("
                        'http_server_requests_seconds_count{job="keycloak"}[$__rate_interval]))',
                        "{{outcome}}",
                    )
                ],
                unit="reqps",
                size=(8, 8),
            ),
            lines(
                "Mean answer",
                "Mean time of an answer, over five minutes; a gap means that nobody asked.",
                [query(f"{requests('sum')} / {requests('count')}", "mean")],
                unit="s",
                no_value="nobody asked",
                size=(8, 8),
            ),
            lines(
                "Memory",
                "Java's heap: in use, and the most it may grow to.",
                [query(memory("used"), "used"), query(memory("max"), "limit")],
                unit="bytes",
                size=(8, 8),
            ),
        ],
    )
