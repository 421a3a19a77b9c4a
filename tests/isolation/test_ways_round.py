"""There is no way round the gateway: not to the cache, not to Orthanc, not to the gateway's own pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import urllib3

from support.marked import marks_in
from support.orthanc import PASSWORDS
from support.platform import MINE, STRAY, THEIRS
from support.wire import BrokenAnswerError

if TYPE_CHECKING:
    from support.platform import Platform
    from support.wire import Answer

pytestmark = pytest.mark.xdist_group("isolation")
KEPT = f"/multipart,application,octet-stream,any{THEIRS.path()}/frames/1"
REVISIONS = range(6)
INSIDE = [
    "/_archive{0}", "//_archive{0}", "/./_archive{0}", "/x/../_archive{0}", "/%5farchive{0}",
    "/_archive%2f{1}", "/_archive//{1}", "/_archive/./{1}", "/_archive/x/..{0}", "/_archive%00{0}",
    "/_archive;{0}", "/_archive{0}?x=1", "/_archive{0}#x", "/_ARCHIVE{0}", "/_archive\\{1}",
    "\\_archive{0}", "/dicom-web/../_archive{0}", "/dicom-web/%2e%2e/_archive{0}",
    "/dicom-web/..%2f_archive{0}", "/dicom-web/_archive{0}", "/auth/../_archive{0}",
    "/auth/%2e%2e/_archive{0}", "/orthanc/../_archive{0}", "/orthanc/_archive{0}",
    "/grafana/..%2f_archive{0}", "/_archive{0}/", "/help/../_archive{0}",
    "/.well-known/acme-challenge/../../_archive{0}", "/index.html/../_archive{0}",
]  # fmt: skip


def is_nothing(answer: Answer) -> bool:
    """A refusal, the viewer's page (here a 404, for there is no viewer), or a redirect to our own name."""
    return answer.status in {301, 307, 400, 401, 403, 404, 405, 500, 502, 503, 504}


@pytest.mark.parametrize("spelled", INSIDE)
def test_the_internal_location_cannot_be_asked_for_in_any_spelling(spelled: str, platform: Platform) -> None:
    assert platform.dicom(f"{THEIRS.path()}/frames/1", "sam").status == 200
    for revision in REVISIONS:
        kept = f"/{revision}{KEPT}"
        target = spelled.format(kept, kept[1:])
        for who in ("nora", "rita", ""):
            answer = platform.ask(target, who, "GET", f"X-Accel-Redirect: /_archive{kept}")
            assert is_nothing(answer), target
            assert not marks_in(answer.body), target


DIRECT = [
    "/studies", "/instances", "/patients", "/series", "/system", "/statistics", "/changes", "/tools/find",
    "/wado", f"/wado?requestType=WADO&objectUID={THEIRS.instance()}", "/app/explorer.html", "/ui/app/",
    "/plugins", "/dicom-web", "/orthanc/studies", "/orthanc/instances", "/orthanc/dicom-web/studies",
    "/orthanc//dicom-web/studies", "/orthanc/changes", "/orthanc/../studies", "/orthanc/%2e%2e/studies",
    "/orthanc/tools/find", "/orthanc/system", "/orthanc/app/explorer.html",
    "/orthanc/dicom-web/studies?_method=GET", "/dicom-web/../system", "/dicom-web/../instances",
    "/dicom-web/..%2finstances", "/dicom-web//../studies", "//dicom-web/studies", "/dicom-web//studies",
    "/dicom-web/./studies", "/Dicom-Web/studies", "/dicom-web%2fstudies", "/dicom-web;/studies",
    "/dicom-web./studies", "/dicom-webx/studies", "/_orthanc/studies", "/archive/studies", "/metrics",
    "/readyz", "/nginx_status", "/dicom-web/../metrics", "/dicom-web/%2e%2e/metrics",
]  # fmt: skip


@pytest.mark.parametrize("who", ["nora", "rita", "noel", ""])
@pytest.mark.parametrize("target", DIRECT)
def test_none_of_orthancs_own_routes_is_open(target: str, who: str, platform: Platform) -> None:
    answer = platform.ask(target, who)
    if answer.status == 200:
        # What nginx itself tidies up is the gateway's own list.
        assert "studies" in target
        assert who in {"nora", "rita"}
        assert answer.header("Content-Type") == "application/dicom+json"
    else:
        assert is_nothing(answer)
    assert not platform.leaked(answer, who)
    assert not any(inside in answer.body for inside in (b"gateway_requests", b"DicomAet"))


@pytest.mark.parametrize("spelled", ["{}#", "{}#x", "{}#?limit=1", "{}?limit=1#x", "/{}", "//{}"])
@pytest.mark.parametrize("path", ["", "/metadata", "/instances"])
def test_what_is_cut_off_before_an_address_is_parsed_makes_it_none(
    path: str, spelled: str, platform: Platform
) -> None:
    """nginx would not know what it counts."""
    assert platform.ask(spelled.format(f"/dicom-web/studies/{MINE.study}{path}")).status == 404


@pytest.mark.parametrize("who", ["nora", "sam", "rita", "gwen", ""])
def test_the_explorer_is_for_administrators_only(who: str, platform: Platform) -> None:
    for target in ("/orthanc/studies", "/orthanc/instances", "/orthanc/system", "/orthanc/dicom-web/studies"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            assert platform.ask(target, who, method).status in {401, 403}
    assert platform.ask("/orthanc/studies", "alma").status == 200


TARGETS = [
    "http://{host}/dicom-web/studies/{theirs}/metadata",
    "https://{host}/dicom-web/studies/{theirs}/metadata",
    "http://orthanc:8042/dicom-web/studies/{theirs}/metadata",
    "https://attacker.example/dicom-web/studies/{theirs}/metadata", "http://localhost/../_archive/1{kept}",
    "http://{host}/_archive/1{kept}", "http://{host}//_archive/1{kept}",
    "https://{host}/dicom-web/studies/{mine}%5C..%5C{theirs}/metadata", "*", "localhost:443",
    "dicom-web/studies", "http:/dicom-web/studies/{theirs}/metadata",
    "http://x@{host}/dicom-web/studies/{theirs}/metadata",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_whole_url_as_the_target_leads_nowhere_else(target: str, platform: Platform) -> None:
    named = target.format(host=platform.host, theirs=THEIRS.study, mine=MINE.study, kept=KEPT)
    answer = platform.ask(named)
    assert is_nothing(answer)
    assert not platform.leaked(answer, "nora")


HOSTS = [
    "attacker.example", "orthanc", "orthanc:8042", "gateway:8000", "127.0.0.1", "localhost", "nginx",
    "LOCALHOST", "localhost.", "_", "", "localhost\tx", "localhost@attacker.example", "localhost/x",
    "[::1]", "localhost:99999",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_no_host_name_opens_another_door(host: str, platform: Platform) -> None:
    for target in (
        f"/dicom-web/studies/{THEIRS.study}/metadata",
        f"/_archive/1{KEPT}",
        "/studies",
        "/metrics",
    ):
        answer = platform.ask(target, "nora", "GET", f"Host: {host}")
        assert is_nothing(answer)
        assert not platform.leaked(answer, "nora")
        assert b"attacker" not in answer.body
        assert "attacker" not in answer.header("Location")
    answer = platform.ask("/dicom-web/studies", "nora", "GET", f"Host: {host}")
    assert answer.status in {200, 307, 400}
    assert b"attacker" not in answer.body


def test_two_hosts_are_none(platform: Platform) -> None:
    lines = (f"Host: {platform.host}", "Host: attacker.example")
    assert platform.ask("/dicom-web/studies", "nora", "GET", *lines).status == 400


def test_the_first_request_of_another_version_of_http_gets_nothing(platform: Platform) -> None:
    for preface in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /dicom-web/studies\r\n",
        b"GET /dicom-web/studies HTTP/9.9\r\n\r\n",
    ):
        with platform.wire() as wire:
            wire.send(preface)
            try:
                answer = wire.answer()
            except BrokenAnswerError:
                continue
            assert answer.status in {400, 401, 505}


@pytest.mark.parametrize("user", ["gateway", "monitor", "importer", "nobody"])
def test_orthanc_lets_each_of_its_users_do_its_work_only(user: str, platform: Platform) -> None:
    """For whoever is in the network and has one of the passwords: it opens no other door."""
    login = urllib3.make_headers(basic_auth=f"{user}:{PASSWORDS.get(user, 'x')}")
    for target in (
        "/instances", "/patients", "/changes", "/tools/lookup", "/dicom-web/servers", "/plugins",
        "/dicom-web/studies/..%5C..%5Cinstances", "/dicom-web/..%2finstances",
        "/dicom-web/studies?_method=DELETE", "/modalities",
        "/dicom-web/studies/../../instances", "/wado?objectUID=" + STRAY.instance(),
    ):  # fmt: skip
        answer = urllib3.request("GET", platform.orthanc.url + target, headers=login, retries=False)
        assert answer.status in {400, 401, 403, 404}, target
        assert not marks_in(answer.data)


def test_nobody_without_a_password_asks_orthanc(platform: Platform) -> None:
    for target in ("/dicom-web/studies", "/system", "/instances"):
        assert urllib3.request("GET", platform.orthanc.url + target, retries=False).status == 401


def test_the_gateway_itself_opens_nothing_more_than_behind_nginx(platform: Platform) -> None:
    """Asked directly, as from within the network: it hands over, and nobody is there to take it."""
    root = platform.site.gateway_url
    for who, study, status in (
        ("nora", MINE, 200),
        ("nora", THEIRS, 404),
        ("", MINE, 401),
        ("rita", STRAY, 200),
    ):
        headers = {"Authorization": f"Bearer {platform.tokens[who]}"} if who else {}
        for tail in ("/frames/1", "/metadata", "/rendered"):
            answer = urllib3.request("GET", f"{root}{study.path()}{tail}", headers=headers, retries=False)
            assert answer.status == status
            assert marks_in(answer.data) <= {study.mark if status == 200 else None}


def test_a_redirect_to_our_own_name_keeps_nothing_but_the_address(platform: Platform) -> None:
    answer = platform.ask("/dicom-web/studies?PatientName=x", "nora", "GET", "Host: attacker.example")
    assert answer.status == 307
    assert answer.header("Location") == f"{platform.site.nginx.public_url}/dicom-web/studies?PatientName=x"
    assert platform.tokens["nora"] not in json.dumps([*answer.headers, answer.body.decode()])
