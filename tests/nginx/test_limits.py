"""Limits by route and client address. Each test comes from an address of its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from support.gateway import MINE
from support.nginx import ROOT, SOURCE
from support.stack import wait_until
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
SIGN_IN = "/auth/realms/clinicpacs/login-actions/authenticate?session_code=secret"
TOKEN = "/auth/realms/clinicpacs/protocol/openid-connect/token"
SNIPPETS = SOURCE / "snippets"
ZONES = {
    "all below /dicom-web; /orthanc with a token": ["caller"],
    "rendered pictures, thumbnails; frames and files encoded anew, or asked for with a query": ["dear"],
    "whole studies and series, several frames in one request": ["whole"],
    "lists of instances": ["lists"],
    "searches": ["search"],
    "frames, pictures, metadata, bulk data": ["bulk"],
    "signing in; tokens": ["sign_in", "token"],
    "the viewer's and Keycloak's pages; /orthanc": ["pages", "explorer"],
    "everything": ["connections"],
}
"""Of each row in SECURITY.md."""
SLOWLY_REFILLED = {
    "zone=sign_in:2m rate=2r/s": "zone=sign_in:2m rate=1r/m",
    "zone=token:2m rate=10r/s": "zone=token:2m rate=1r/m",
}
"""So that a slow machine meets the limit, too."""


def statuses(site: Site, count: int, method: str, path: str, client: str) -> list[int]:
    token = site.world.issuer.token()
    headers = {"Authorization": f"Bearer {token}"}
    return [site.nginx.request(method, path, headers, client=client).status for _ in range(count)]


def refusal(site: Site, method: str, path: str, client: str) -> BaseHTTPResponse:
    """The first answer that is no success."""
    answers = (site.nginx.request(method, path, client=client) for _ in range(200))
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
def test_signing_in_is_limited_tightly(path: str, client: str, make_site: Callable[..., Site]) -> None:
    site = make_site(SLOWLY_REFILLED)
    assert statuses(site, 60, "POST", path, client) == [200] * 60
    assert refusal(site, "POST", path, client).status == 429
    assert statuses(site, 1, "GET", path, client) == [200]
    assert statuses(site, 1, "POST", path, "127.0.1.100") == [200]


def test_a_refusal_is_told_to_a_person(make_site: Callable[..., Site]) -> None:
    site = make_site(SLOWLY_REFILLED)
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


def test_a_flood_of_searches_from_one_address_is_refused_before_the_gateway(
    make_site: Callable[..., Site],
) -> None:
    """With hardly anything that refills: a slow gateway would let all of it pass."""
    site = make_site({"zone=search:4m rate=20r/s": "zone=search:4m rate=1r/m"})
    before, count = len(site.gateway.asked), 300
    request = f"GET /dicom-web/studies HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n"
    last = f"{request}Connection: close\r\n\r\n"
    with Wire(site.nginx, "127.0.1.11") as wire:
        wire.send((f"{request}\r\n" * (count - 1) + last).encode())
        answers = wire.all(10)
    refused = answers.count(b"HTTP/1.1 429 ")
    assert answers.count(b"HTTP/1.1 401 ") == len(site.gateway.asked) - before == count - refused
    assert refused > 0
    assert site.nginx.get("/dicom-web/studies", "127.0.1.12").status == 401


@pytest.mark.parametrize(
    ("rate", "burst", "method", "path"),
    [
        ("zone=token:2m rate=10r/s", "zone=token burst=100", "POST", TOKEN),
        ("zone=pages:4m rate=100r/s", "zone=pages burst=400", "GET", "/auth/realms/clinicpacs/account"),
        ("zone=pages:4m rate=100r/s", "zone=pages burst=400", "GET", "/"),
        ("zone=explorer:2m rate=50r/s", "zone=explorer burst=300", "GET", "/orthanc/app/explorer.html"),
    ],
    ids=["tokens", "sign-in", "viewer", "explorer"],
)
def test_an_address_that_asks_on_is_refused_and_another_is_not(
    make_site: Callable[..., Site], rate: str, burst: str, method: str, path: str
) -> None:
    """With less that passes at once and hardly anything that refills."""
    changes = {
        rate: f"{rate.partition('rate=')[0]}rate=1r/m",
        burst: f"{burst.partition('burst=')[0]}burst=5",
    }
    site = make_site(changes)
    found = statuses(site, 7, method, path, "127.0.1.13")
    assert 429 not in found[:6]
    assert found[6] == 429
    assert statuses(site, 1, method, path, "127.0.1.14") != [429]


def test_limits_are_as_documented() -> None:
    """By their definition; a thousand requests would show no more."""
    text = "".join(path.read_text() for path in SNIPPETS.glob("*.conf"))
    rates = dict(re.findall(r"^limit_req_zone .* zone=(\w+):\w+ rate=(\d+)r/s;$", text, re.MULTILINE))
    once = set(re.findall(r" limit_req zone=(\w+) burst=(\d+) (?:nodelay|delay=(\d+));", text))
    once |= {(zone, most, "") for zone, most in re.findall(r" limit_conn (\w+) (\d+);", text)}
    assert len(once) == len(rates) + 3, "the same wherever a zone counts"
    limits = {zone: (rates.get(zone, ""), delay or most) for zone, most, delay in once}
    late = {zone: str(int(most) - int(delay)) for zone, most, delay in once if delay}
    told = documented()
    assert [row[0] for row in told] == list(ZONES)
    for what, _, rate, at_once, then in told:
        zones = ZONES[what]
        assert (rate, at_once.removesuffix(" under way")) == tuple(
            "; ".join(each) for each in zip(*(limits[zone] for zone in zones), strict=True)
        ), what
        assert re.findall(r"with (\d+) waiting", then) == [late[zone] for zone in zones if zone in late], what


def documented() -> list[list[str]]:
    """The rows of the table in SECURITY.md, its numbers without commas."""
    section = (ROOT / "docs" / "SECURITY.md").read_text().partition("\n## Limits\n")[2].partition("\n\n")[0]
    _, _, *rows = section.splitlines()
    return [[re.sub(r"(?<=\d),(?=\d)", "", cell).strip() for cell in row.split("|")[1:-1]] for row in rows]


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
    routes = {line["route"] for line in lines_of(site, client)}
    assert routes <= {"search-studies", "dicom-web"}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/studies", "search-studies"),
        (f"/studies/{MINE.study}/series", "search-series"),
        (f"/studies/{MINE.study}/instances", "search-instances"),
        (f"/studies/{MINE.study}", "retrieve"),
        (f"/studies/{MINE.study}/metadata", "metadata"),
        (f"{MINE.path()}/rendered", "rendered"),
        (f"{MINE.path()}/thumbnail", "thumbnail"),
        (f"{MINE.path()}/frames/1", "frames"),
    ],
)
def test_a_fragment_behind_an_address_is_not_served_and_hides_nothing_of_it(
    path: str, route: str, site: Site
) -> None:
    before = len(lines_of(site, "127.0.1.15"))
    for fragment in ("#", "#x", "#?x=1"):
        with Wire(site.nginx, "127.0.1.15") as wire:
            token = site.world.issuer.token()
            head = f"GET /dicom-web{path}{fragment} HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n"
            wire.send(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
            assert wire.answer().status == 404
    wait_until(lambda: len(lines_of(site, "127.0.1.15")) == before + 3, 60, "they are logged", every=0.01)
    assert {line["route"] for line in lines_of(site, "127.0.1.15")[before:]} == {route}


def lines_of(site: Site, client: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in site.nginx.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["client"] == client]
