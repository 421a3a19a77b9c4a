"""Keycloak and Grafana behind nginx."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from support.nginx_services import echo

if TYPE_CHECKING:
    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
OWN = {"Content-Security-Policy": "frame-src 'self'; frame-ancestors 'self'", "X-Frame-Options": "SAMEORIGIN"}
_SECONDS = 60


def test_keycloak_learns_the_public_address_and_the_true_client(site: Site) -> None:
    smuggled = {
        "X-Forwarded-For": "10.9.8.7",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil",
        "X-Forwarded-Prefix": "/x",
        "Cookie": "AUTH_SESSION_ID=1",
    }
    answer = site.nginx.request("GET", "/auth/realms/clinicpacs/account?x=1", smuggled, client="127.0.0.9")
    told = json.loads(answer.data)
    assert told["path"] == "/auth/realms/clinicpacs/account?x=1"
    host = f"localhost:{site.nginx.https_port}"
    expected = {
        "Host": host,
        "X-Forwarded-Host": host,
        "X-Forwarded-For": "127.0.0.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": str(site.nginx.https_port),
        "Cookie": "AUTH_SESSION_ID=1",
    }
    assert {name: told["headers"].get(name) for name in expected} == expected
    assert not {"Forwarded", "X-Forwarded-Prefix"} & told["headers"].keys()


@pytest.mark.parametrize(
    "path",
    [
        "/auth",
        "/auth/",
        "/auth/admin/",
        "/auth/admin/master/console/",
        "/auth/realms/master/.well-known/openid-configuration",
        "/auth/resources/x.js",
    ],
)
def test_keycloaks_pages_keep_their_own_headers(path: str, site: Site) -> None:
    site.keycloak.extra = OWN
    answer = site.nginx.get(path)
    site.keycloak.extra = {}
    assert answer.status == 200
    for name, value in OWN.items():
        assert answer.headers.getlist(name) == [value]
    assert "Cross-Origin-Opener-Policy" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/auth/metrics",
        "/auth/metrics/",
        "/auth/health",
        "/auth/health/ready",
        "/auth/%6detrics",
        "/auth//metrics",
        "/auth/x/../metrics",
        "/auth/metrics;x",
        "/grafana/metrics",
    ],
)
def test_metrics_and_health_are_not_published(path: str, site: Site) -> None:
    before = len(site.keycloak.asked)
    assert site.nginx.get(path).status == 404
    assert len(site.keycloak.asked) == before


def test_large_headers_and_cookies_pass(site: Site) -> None:
    site.keycloak.extra = {"X-Large": "x" * 30_000}
    answer = site.nginx.get("/auth/realms/x", Cookie=f"KEYCLOAK_IDENTITY={'y' * 12_000}")
    site.keycloak.extra = {}
    assert answer.status == 200
    assert len(json.loads(answer.data)["headers"]["Cookie"]) > 12_000


def test_nginx_runs_without_grafana_and_finds_it_and_its_new_address(site: Site) -> None:
    site.names.addresses.pop("grafana", None)
    assert (
        wait_for(site, 503)
        == "This part of the platform is not running at the moment. Please try again in a minute.\n"
    )
    site.names.addresses["grafana"] = "127.0.0.1"
    assert json.loads(wait_for(site, 200))["host"] == "127.0.0.1"
    with echo("127.0.0.2", site.keycloak.port):
        site.names.addresses["grafana"] = "127.0.0.2"
        deadline = time.monotonic() + _SECONDS
        while json.loads(site.nginx.get("/grafana/").data)["host"] != "127.0.0.2":
            assert time.monotonic() < deadline, "nginx kept the old address"
            time.sleep(0.05)
    del site.names.addresses["grafana"]


def wait_for(site: Site, status: int) -> str:
    deadline = time.monotonic() + _SECONDS
    while (answer := site.nginx.get("/grafana/")).status != status:
        assert time.monotonic() < deadline, f"still {answer.status}"
        time.sleep(0.05)
    return answer.data.decode()


def test_grafanas_live_panels_are_upgraded_and_nothing_else_is(site: Site) -> None:
    site.names.addresses["grafana"] = "127.0.0.1"
    wait_for(site, 200)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    told = json.loads(site.nginx.request("GET", "/grafana/api/live/ws", upgrade).data)["headers"]
    assert (told["Upgrade"], told["Connection"]) == ("websocket", "upgrade")
    for path, protocol in (("/grafana/", "h2c"), ("/auth/x", "websocket")):
        told = json.loads(site.nginx.request("GET", path, {**upgrade, "Upgrade": protocol}).data)["headers"]
        assert "Upgrade" not in told
        assert told["Connection"] == "close"
    answer = site.nginx.get("/grafana/")
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert "default-src" not in answer.headers["Content-Security-Policy"]
    del site.names.addresses["grafana"]
