"""What reaches the gateway, and what does not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.answers import SAFE_HEADERS
from support.gateway import MINE

if TYPE_CHECKING:
    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
SMUGGLED = {
    "X-Forwarded-For": "10.9.8.7",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/x",
    "X-Real-IP": "10.9.8.7",
    "Forwarded": "for=10.9.8.7",
    "X-HTTP-Method-Override": "DELETE",
    "X-Original-URL": "/metrics",
    "X-Rewrite-URL": "/metrics",
    "X-Accel-Redirect": "/_archive/1/x",
    "Cookie": "session=secret",
    "Referer": "https://evil.example/?token=1",
    "SCRIPT_NAME": "/x",
    "Proxy": "http://evil.example",
    "X-Anything": "y",
}


def arrived(site: Site) -> dict[str, Any]:
    found = site.gateway.asked[-1]
    return {name: value for name, value in found.items() if name.startswith("HTTP_")}


def test_the_gateway_gets_what_it_reads_and_the_true_address_only(site: Site) -> None:
    token = site.world.issuer.token()
    headers = {**SMUGGLED, "Authorization": f"Bearer {token}", "Accept": "application/dicom+json"}
    answer = site.nginx.request("GET", "/dicom-web/studies?limit=1", headers, client="127.0.0.9")
    assert answer.status == 200
    found = arrived(site)
    assert found.pop("HTTP_X_REQUEST_ID")
    # nginx 1.27.3 and newer keep the connection instead.
    assert found.pop("HTTP_CONNECTION", "close") == "close"
    assert found == {
        "HTTP_HOST": f"localhost:{site.nginx.https_port}",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_ACCEPT": "application/dicom+json",
        "HTTP_X_FORWARDED_FOR": "127.0.0.9",
        "HTTP_X_FORWARDED_HOST": f"localhost:{site.nginx.https_port}",
        "HTTP_X_FORWARDED_PORT": str(site.nginx.https_port),
        "HTTP_X_FORWARDED_PROTO": "https",
    }


def test_the_explorer_gets_cookies_and_origin_and_the_true_address(site: Site) -> None:
    own = {"Cookie": "explorer=1", "Origin": site.nginx.public_url, "Content-Type": "application/json"}
    site.nginx.request("POST", "/orthanc/tools/find?x=1", {**SMUGGLED, **own}, b"{}", client="127.0.0.9")
    found = arrived(site)
    assert found["HTTP_X_FORWARDED_FOR"] == "127.0.0.9"
    assert found["HTTP_HOST"] == found["HTTP_X_FORWARDED_HOST"] == f"localhost:{site.nginx.https_port}"
    assert (found["HTTP_X_FORWARDED_PROTO"], found["HTTP_COOKIE"]) == ("https", "explorer=1")
    assert found["HTTP_ORIGIN"] == site.nginx.public_url
    gone = {
        "FORWARDED",
        "PROXY",
        "SCRIPT_NAME",
        "X_REAL_IP",
        "X_ORIGINAL_URL",
        "X_REWRITE_URL",
        "X_HTTP_METHOD_OVERRIDE",
        "X_FORWARDED_PREFIX",
    }
    assert not gone & {name.removeprefix("HTTP_") for name in found}
    assert site.gateway.asked[-1]["REQUEST_METHOD"] == "POST"
    assert site.gateway.asked[-1]["CONTENT_LENGTH"] == "2"


def test_the_gateways_headers_come_out_once_and_the_viewers_do_not(site: Site) -> None:
    for answer in (site.dicom("/studies"), site.dicom("/studies", ""), site.dicom("/nothing")):
        for name, value in SAFE_HEADERS.items():
            assert answer.headers.getlist(name) == [value], name
        assert "X-Frame-Options" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/healthz/",
        "/readyz",
        "/dicom-web/../metrics",
        "/dicom-web/%2e%2e/metrics",
        "/dicom-web/..%2fmetrics",
        "/dicom-web/..;/metrics",
        "/dicom-web//../metrics",
        "/orthanc/../metrics",
        "/orthanc/..%2fmetrics",
        "/x/../readyz",
        "/metrics/../dicom-web/",
        "/metrics/..%2fdicom-web%2f",
        "/metrics?/dicom-web/",
        "/metrics#/dicom-web/",
    ],
)
def test_the_gateways_own_pages_cannot_be_reached(path: str, site: Site) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\nConnection: close\r\n\r\n"
    answer = site.nginx.raw(request.encode())
    for inside in (b"gateway_requests_total", b"ready\n"):
        assert inside not in answer
    status = int(answer.split(b" ", 2)[1])
    assert status in {400, 401, 404} or b"<title>viewer" in answer


def test_the_address_arrives_as_it_was_sent(site: Site) -> None:
    request = f"GET /dicom-web/studies/1.2%2e3/series HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n"
    site.nginx.raw(f"{request}Connection: close\r\n\r\n".encode())
    assert site.gateway.asked[-1]["RAW_URI"] == "/dicom-web/studies/1.2%2e3/series"
    assert site.dicom("/studies/1.2%5C..%5C3/series").status == 404


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
def test_no_body_is_taken_under_dicom_web(headers: dict[str, str], site: Site) -> None:
    before = len(site.gateway.asked)
    body = b"5\r\nhello\r\n0\r\n\r\n" if headers else b"hello"
    length = "" if headers else f"Content-Length: {len(body)}\r\n"
    request = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n{length}"
        + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    )
    answer = site.nginx.raw(f"{request}Connection: close\r\n\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 413
    assert len(site.gateway.asked) == before


def test_uploads_have_a_limit(site: Site) -> None:
    before = len(site.gateway.asked)
    head = "POST {} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
    for path, size in (("/orthanc/tools/find", (1 << 20) + 1), ("/auth/x", 9 << 20), ("/grafana/x", 9 << 20)):
        with site.nginx.connect() as connection:
            connection.sendall(head.format(path, site.nginx.https_port, size).encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413 "), path
    assert len(site.gateway.asked) == before
    assert site.nginx.request("POST", "/orthanc/tools/find", body=b"x" * (1 << 19)).status in {401, 404, 405}
    assert site.gateway.asked[-1]["CONTENT_LENGTH"] == str(1 << 19)


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (
            "GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nAuthor",
            "ization: x\r\nConnection: close\r\n\r\n",
        ),
        (
            "POST /orthanc/x HTTP/1.0\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
            " done",
        ),
    ],
)
def test_a_request_that_trickles_in_holds_no_thread_of_the_gateway(head: str, rest: str, site: Site) -> None:
    before = site.gateway.connections
    with site.nginx.connect() as connection:
        connection.sendall(head.encode())
        # nginx has it by now: it has answered another one since.
        for _ in range(3):
            assert site.nginx.get("/healthz").status == 200
        assert site.gateway.connections == before
        connection.sendall(rest.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 4")
    assert site.gateway.connections == before + 1


def test_a_gateway_that_is_away_is_told_as_a_problem_and_found_again(site: Site) -> None:
    known = site.names.addresses.pop("gateway")
    deadline = time.monotonic() + 60
    while (answer := site.dicom("/studies")).status == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    site.names.addresses["gateway"] = known
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert json.loads(answer.data)["detail"] == "The gateway cannot be reached."
    for name, value in SAFE_HEADERS.items():
        assert answer.headers.getlist(name) == [value], name
    while (answer := site.dicom(f"{MINE.path()}/metadata")).status != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status == 200


def test_long_tokens_and_addresses_pass(site: Site) -> None:
    token = site.world.issuer.token(filler="x" * 8000)
    assert len(token) > 10_000
    assert site.dicom("/studies", token).status == 200
    assert site.dicom(f"/studies?{'includefield=00081030&' * 90}").status == 200
    answer = site.dicom(f"/studies?PatientName={'x' * 5000}")
    assert (answer.status, answer.headers["Content-Type"]) == (414, "application/problem+json")


@pytest.mark.parametrize(
    ("start", "line", "status"),
    [
        (f"GET /dicom-web/studies?PatientName={'x' * 20_000} HTTP/1.1", "Accept: */*", 414),
        ("GET /dicom-web/studies HTTP/1.1", f"Accept: {'x' * 20_000}", 400),
        ("GET /dicom-web/studies/%00/metadata HTTP/1.1", "Accept: */*", 400),
        ("GET /dicom-web/studies/%zz/metadata HTTP/1.1", "Accept: */*", 400),
        ("TRACE /dicom-web/studies HTTP/1.1", "Accept: */*", 405),
        ("CONNECT /dicom-web/studies HTTP/1.1", "Accept: */*", 405),
        ("GET /dicom-web/studies HTTP/1.1", "Transfer-Encoding: gzip", 501),
        ("GET /dicom-web/studies HTTP/3.1", "Accept: */*", 505),
        ("GET /dicom-web/studies HTTP/1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("GET /dicom-web/studies HTTP/1.1", "Content-Length: 50\r\nTransfer-Encoding: gzip", 501),
        ("TRACE /dicom-web/studies HTTP/1.1", "Content-Length: 50", 405),
    ],
    ids=[
        "address",
        "header",
        "null byte",
        "no encoding",
        "TRACE",
        "CONNECT",
        "coding",
        "version",
        "two lengths",
        "coding and length",
        "TRACE and length",
    ],
)
def test_what_nginx_cannot_read_is_told_as_a_problem(start: str, line: str, status: int, site: Site) -> None:
    """It never comes to the gateway, and has no address that a location could be chosen by."""
    request = f"{start}\r\nHost: localhost\r\n{line}\r\nConnection: close\r\n\r\n"
    head, _, body = site.nginx.raw(request.encode()).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == json.loads(body)["status"] == status
    assert b"Content-Type: application/problem+json" in head
    for name, value in SAFE_HEADERS.items():
        assert f"\r\n{name}: {value}".encode() in head, name
    for name in ("unreadable", "too-long", "method", "coding", "version"):
        assert site.nginx.get(f"/_problem/{name}").status == 404


def test_a_request_for_no_server_is_told_as_a_problem(site: Site) -> None:
    head, _, body = site.nginx.raw(b"GET /dicom-web/studies HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert (int(head.split()[1]), json.loads(body)["status"]) == (400, 400)
    assert b"Content-Type: application/problem+json" in head


def test_a_search_of_any_form_is_answered(site: Site) -> None:
    """What is told of it in a header has room in nginx's buffer."""
    name = ".".join(["0070030B"] * 440)
    for path in ("/studies", f"/studies/{MINE.study}/series"):
        answer = site.dicom(f"{path}?{name}=x")
        assert (answer.status, "Warning" in answer.headers) == (200, True)


def test_answers_in_json_are_compressed(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.world.issuer.token()}", "Accept-Encoding": "gzip"}
    for path in ("/dicom-web/studies", f"/dicom-web{MINE.path()}/metadata"):
        assert site.nginx.request("GET", path, headers).headers["Content-Encoding"] == "gzip"
