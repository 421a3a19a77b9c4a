"""The log holds no query, no path, no token and no Referer, whatever happens."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from support.gateway import MINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
SECRET = "SampleSecretName"


def provoke(site: Site) -> None:
    """Requests that hold the secret wherever they can, in every kind of trouble."""
    nginx = site.nginx
    headers = {"Referer": f"https://x.example/?code={SECRET}", "Cookie": SECRET, "X-Any": SECRET}
    bearer = {**headers, "Authorization": f"Bearer {site.world.issuer.token()}"}
    query = f"?PatientName={SECRET}&code={SECRET}&id_token_hint={SECRET}&token={SECRET}"
    for path in (
        "/",
        "/viewer",
        "/dicom-web/studies",
        f"/dicom-web{MINE.path()}/frames/1",
        "/auth/realms/x/logout",
        f"/{SECRET}",
        f"/{SECRET}.js",
        f"/dicom-web/studies/{SECRET}",
        f"/auth/{SECRET}",
        "/grafana/",
        f"/orthanc/{SECRET}",
        f"/_archive/{SECRET}",
        "/metrics",
    ):
        nginx.request("GET", path + query, bearer)
    for path in ("/dicom-web/studies", "/orthanc/x", "/viewer"):
        nginx.request("POST", path + query, headers, SECRET.encode())
    for _ in range(30):
        nginx.request("POST", f"/auth/realms/x/login-actions/y{query}", headers, client="127.0.2.1")
    nginx.request("GET", f"/auth/realms/x{query}", {**headers, "X-Long": "x" * 40_000})
    host = f"Host: localhost:{nginx.https_port}\r\nConnection: close\r\n"
    for request in (
        f"GET /dicom-web/x{query} HTTP/1.1\r\n{host}bad header {SECRET}\r\n\r\n",
        f"GET /{SECRET}\x01 HTTP/1.1\r\n{host}\r\n",
        f"{SECRET} / HTTP/1.1\r\n{host}\r\n",
        f"GET /x{query} HTTP/1.1\r\nConnection: close\r\n\r\n",
        f"GET /{'x' * 20_000}{query} HTTP/1.1\r\n{host}\r\n",
        f"GET /%00{query} HTTP/1.1\r\n{host}\r\n",
        f"GET /../{SECRET}{query} HTTP/1.1\r\n{host}\r\n",
    ):
        assert b"HTTP/1.1 4" in nginx.raw(request.encode())


def test_no_line_holds_what_was_asked(make_site: Callable[..., Site]) -> None:
    # 90 sign-ins meet the limit of 60, however long they take.
    site = make_site({"zone=sign_in:2m rate=2r/s": "zone=sign_in:2m rate=1r/m"})
    provoke(site)
    # The services behind go away, one after the other.
    site.archive.fault = 0
    site.keycloak.fault = 0
    site.world.set_study(MINE, revision=77)
    provoke(site)
    site.names.addresses.clear()
    deadline = time.monotonic() + 60
    while site.dicom(f"/studies?PatientName={SECRET}").status == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    provoke(site)
    text = site.nginx.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    statuses = {line["status"] for line in lines}
    assert {200, 400, 404, 413, 414, 429, 503} <= statuses
    assert not [line for line in text.splitlines() if SECRET in line]
    assert {line["limit"] for line in lines} >= {"PASSED", "REJECTED"}
    assert {line["route"] for line in lines} >= {
        "viewer",
        "search-studies",
        "frames",
        "auth",
        "auth-sign-in",
        "grafana",
    }


def test_trouble_with_the_disk_tells_nothing_of_the_request(make_site: Callable[..., Site]) -> None:
    """nginx says so on the level crit, with the whole request line."""
    site = make_site({"client_max_body_size 1m": "client_max_body_size 1m; client_body_in_file_only on"})
    folder = site.nginx.cache / "body"
    for each in sorted(folder.rglob("*"), reverse=True):
        each.rmdir()
    folder.rmdir()
    folder.write_text("no folder")
    answer = site.nginx.request(
        "POST", f"/orthanc/tools/find?PatientName={SECRET}", {"Referer": SECRET}, b"x" * 200_000
    )
    assert answer.status == 500
    assert SECRET not in site.nginx.log.read_text()


def test_a_line_says_what_operators_need(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.dicom(f"{MINE.path()}/frames/1")
    site.dicom("/studies?PatientName=x")
    deadline = time.monotonic() + 60
    lines: list[dict[str, object]] = []
    while len(lines) < 2 and time.monotonic() < deadline:
        lines = [json.loads(line) for line in site.nginx.log.read_text().splitlines() if line.startswith("{")]
    frames, search = lines
    assert frames["route"] == "frames"
    assert (frames["cache"], frames["upstream_status"]) == ("MISS", "200 : 200")
    assert frames["upstream"] == f"127.0.0.1:{site.gateway.port} : 127.0.0.1:{site.archive.port}"
    assert (search["route"], search["status"], search["method"]) == ("search-studies", 200, "GET")
    assert isinstance(search["seconds"], float)
