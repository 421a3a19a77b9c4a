"""Limits by route and client address. Each test comes from an address of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.gateway import MINE
from support.wire import Wire

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
SIGN_IN = "/auth/realms/clinicpacs/login-actions/authenticate?session_code=secret"
TOKEN = "/auth/realms/clinicpacs/protocol/openid-connect/token"


def statuses(site: Site, count: int, method: str, path: str, client: str) -> list[int]:
    token = site.world.issuer.token()
    headers = {"Authorization": f"Bearer {token}"}
    return [site.nginx.request(method, path, headers, client=client).status for _ in range(count)]


def refusal(site: Site, method: str, path: str, client: str) -> BaseHTTPResponse:
    """The first answer that is no success; later on a slow machine, for the limit refills all the time."""
    answers = (site.nginx.request(method, path, client=client) for _ in range(600))
    return next(answer for answer in answers if answer.status != 200)


@pytest.mark.parametrize(
    ("path", "client"),
    [
        (SIGN_IN, "127.0.1.1"),
        ("/auth/realms/clinicpacs/login%2Dactions/authenticate", "127.0.1.2"),
        ("/auth//realms/./clinicpacs;x=1/login-actions;y/authenticate", "127.0.1.3"),
        ("/auth/realms/master/login-actions/authenticate", "127.0.1.4"),
        ("/auth/realms/clinicpacs/protocol/openid-connect/token;x", "127.0.1.5"),
        ("/auth/realms/clinicpacs/protocol/openid-connect/token/", "127.0.1.6"),
    ],
)
def test_signing_in_is_limited_tightly(path: str, client: str, site: Site) -> None:
    assert statuses(site, 60, "POST", path, client) == [200] * 60
    assert refusal(site, "POST", path, client).status == 429
    assert statuses(site, 1, "GET", path, client) == [200]
    assert statuses(site, 1, "POST", path, "127.0.1.100") == [200]


def test_a_refusal_is_told_to_a_person(site: Site) -> None:
    answer = refusal(site, "POST", SIGN_IN, "127.0.1.7")
    assert (answer.status, answer.headers["Content-Type"]) == (429, "text/plain")
    assert answer.headers["Retry-After"] == "30"
    assert b"wait a minute" in answer.data


def test_tokens_are_renewed_more_often_than_people_sign_in(site: Site) -> None:
    assert statuses(site, 60, "POST", TOKEN, "127.0.1.8") == [200] * 60


def test_frames_are_wide_and_searches_between(site: Site) -> None:
    site.world.set_study(MINE, revision=99)
    path = f"/dicom-web{MINE.path()}/frames/1"
    assert statuses(site, 60, "GET", path, "127.0.1.9") == [200] * 60
    assert statuses(site, 60, "GET", "/dicom-web/studies", "127.0.1.9") == [200] * 60


def test_a_flood_of_searches_from_one_address_is_refused_before_the_gateway(site: Site) -> None:
    before, count = len(site.gateway.asked), 600
    request = f"GET /dicom-web/studies HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n"
    last = f"{request}Connection: close\r\n\r\n"
    with Wire(site.nginx, "127.0.1.11") as wire:
        wire.send((f"{request}\r\n" * (count - 1) + last).encode())
        answers = wire.all(10)
    refused = answers.count(b"HTTP/1.1 429 ")
    assert answers.count(b"HTTP/1.1 401 ") == len(site.gateway.asked) - before == count - refused
    assert refused > 0
    assert site.nginx.get("/dicom-web/studies", "127.0.1.12").status == 401


def test_limits_are_as_written(site: Site) -> None:
    """By their definition; a thousand requests would show no more."""
    text = site.nginx.configuration.with_name("snippets").joinpath("limits.conf").read_text()
    rates = {
        line.split("zone=")[1].split(":")[0]: line.split("rate=")[1].rstrip(";")
        for line in text.splitlines()
        if line.startswith("limit_req_zone")
    }
    assert rates == {
        "sign_in": "2r/s",
        "token": "10r/s",
        "pages": "100r/s",
        "search": "20r/s",
        "explorer": "50r/s",
        "bulk": "1000r/s",
        "caller": "100r/s",
        "dear": "20r/s",
    }


@pytest.mark.parametrize(
    ("path", "spelled"),
    [
        ("/dicom-web/studies", "/dicom-web/stud%69es"),
        ("/dicom-web/studies", "/dicom-web/studies?x=/frames/1"),
    ],
)
def test_another_spelling_of_a_search_is_no_frame(path: str, spelled: str, site: Site) -> None:
    client = "127.0.1.10"
    statuses(site, 1, "GET", path, client)
    site.nginx.get(spelled, client)
    lines = [json.loads(line) for line in site.nginx.log.read_text().splitlines() if line.startswith("{")]
    routes = {line["route"] for line in lines if line["client"] == client}
    assert routes <= {"search-studies", "dicom-web"}
