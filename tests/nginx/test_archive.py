"""Bulk data that the gateway hands over: from the archive, from the cache, and to nobody else."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from werkzeug import Response

from gateway.answers import SAFE_HEADERS
from support.gateway import CLIP, DOCUMENT, MINE, THEIRS, UNOWNED, World
from support.nginx import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3 import BaseHTTPResponse

    from support.gateway import Sample
    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
_revisions = iter(range(100, 10_000))


@pytest.fixture
def fresh(any_site: Site) -> Iterator[Site]:
    """Studies of revisions that are in no cache, and nothing asked yet."""
    for sample in (MINE, CLIP, DOCUMENT, THEIRS):
        any_site.world.set_study(sample, revision=next(_revisions), settled=True)
    any_site.archive.asked.clear()
    yield any_site
    any_site.archive.fault = None


@contextmanager
def streaming(site: Site) -> Iterator[World]:
    """The same gateway without nginx."""
    given = site.world
    world = World(given.catalog, given.issuer, given.archive, public_url=site.nginx.public_url)
    yield world
    world.close()


ASKED = [
    (MINE, "/frames/1", ""),
    (MINE, "/frames/1", 'multipart/related; type="application/octet-stream"'),
    (CLIP, "/frames/1,2", 'multipart/related; type="application/octet-stream"; transfer-syntax=*'),
    (MINE, "", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'),
    (MINE, "", 'multipart/related; type="application/dicom"; transfer-syntax=*'),
    (MINE, "/rendered?viewport=64,64&window=40,400,linear", "image/png"),
    (MINE, "/thumbnail", ""),
    (DOCUMENT, "/bulk/00420011", ""),
    (MINE, "/frames/99", ""),
]


@pytest.mark.parametrize(("sample", "tail", "accept"), ASKED)
def test_answers_are_those_of_the_gateway_itself(sample: Sample, tail: str, accept: str, fresh: Site) -> None:
    with streaming(fresh) as world:
        expected = world.get(f"{sample.path()}{tail}", Accept=accept)
    got = fresh.dicom(f"{sample.path()}{tail}", Accept=accept)
    assert got.status == expected.status_code
    assert len(fresh.archive.asked) == 1
    for name, value in SAFE_HEADERS.items():
        assert got.headers.getlist(name) == [value], name
    assert split(got.headers["Content-Type"], got.data) == split(expected.content_type, expected.data)


def split(content_type: str, body: bytes) -> tuple[str, list[bytes]]:
    """Media type and parts; each answer has another boundary, and Orthanc adds the transfer syntax."""
    kind, _, boundary = content_type.replace(" ", "").partition(";boundary=")
    parts = body.split(b"--" + boundary.strip('"').encode()) if boundary else [body]
    return re.sub(r";transfer-syntax=[0-9.]+", "", kind), parts


def test_metadata_is_that_of_the_gateway_with_public_urls(orthanc_site: Site) -> None:
    site = orthanc_site
    for sample in (DOCUMENT, MINE, CLIP):
        site.world.set_study(sample, revision=next(_revisions), settled=True)
        site.archive.asked.clear()
        for path in (f"{sample.path()}/metadata", f"/studies/{sample.study}/metadata"):
            with streaming(site) as world:
                expected = world.get(path)
            got = site.dicom(path)
            assert json.loads(got.data) == expected.get_json(force=True)
            assert got.headers["Content-Type"] == "application/dicom+json"
            for inside in (b"orthanc:", b"http://", b"127.0.0.1"):
                assert inside not in got.data
        assert len(site.archive.asked) == 2
    metadata = json.loads(site.dicom(f"{DOCUMENT.path()}/metadata").data)
    found = metadata[0]["00420011"]["BulkDataURI"]
    assert found == f"{site.nginx.public_url}/dicom-web{DOCUMENT.path()}/bulk/00420011"
    assert b"%PDF" in site.dicom(found.partition("/dicom-web")[2]).data


def test_the_archive_is_asked_as_the_gateways_user_and_nothing_of_the_client_is_passed_on(site: Site) -> None:
    site.world.set_study(MINE, revision=next(_revisions))
    site.archive.asked.clear()
    smuggled = {
        "Cookie": "session=secret",
        "X-Forwarded-For": "10.9.8.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "Forwarded": "host=evil.example",
        "X-Accel-Redirect": "/_archive/1/x",
        "X-Accel-Expires": "1",
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": "/system",
        "User-Agent": "smuggler",
        "Range": "bytes=0-9",
        "If-None-Match": "x",
        "X-Anything": "y",
        "Accept-Encoding": "gzip",
        "Connection": "keep-alive, Authorization",
    }
    headers = smuggled | {"Authorization": f"Bearer {site.world.issuer.token()}"}
    answer = site.nginx.request("GET", f"/dicom-web{MINE.path()}/frames/1?_method=DELETE", headers)
    assert answer.status == 206
    [asked] = site.archive.asked
    login = "Basic Z2F0ZXdheTphcmNoaXZlIHNlY3JldC8rb2YgdGhlIGdhdGV3YXk="
    assert PASSWORD == "archive secret/+of the gateway"
    assert (asked.method, asked.body) == ("GET", b"")
    assert asked.path == f"/dicom-web{MINE.path()}/frames/1"
    # nginx 1.27.3 and newer keep the connection instead.
    assert asked.headers.pop("Connection", "close") == "close"
    assert asked.headers == {
        "Host": f"orthanc:{site.archive.port}",
        "User-Agent": "clinicpacs",
        "Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "Accept-Encoding": "identity",
        "Authorization": login,
        "Forwarded": f"host=localhost:{site.nginx.https_port};proto=https",
        "X-Forwarded-Host": f"localhost:{site.nginx.https_port}",
        "X-Forwarded-Proto": "https",
    }
    assert "Authorization" not in answer.headers


def test_what_was_fetched_once_comes_from_the_cache_even_when_the_archive_is_down(fresh: Site) -> None:
    path = f"{MINE.path()}/frames/1"
    first = fresh.dicom(path)
    fresh.archive.fault = 0
    again = fresh.dicom(path)
    assert (again.status, again.data) == (200, first.data)
    assert len(fresh.archive.asked) == 1
    # Another form of the same frame is another answer.
    assert fresh.dicom(path, Accept='multipart/related; type="image/jls"').status == 503


def test_a_colleague_gets_it_from_the_cache_and_a_stranger_gets_nothing(fresh: Site) -> None:
    path = f"{MINE.path()}/frames/1"
    assert fresh.dicom(path).status == 200
    assert fresh.dicom(path, fresh.world.rita).status == 200
    assert len(fresh.archive.asked) == 1
    for token, status in ((fresh.world.sam, 404), ("", 401), ("not.a.token", 401)):
        answer = fresh.dicom(path, token)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert fresh.dicom(f"{THEIRS.path()}/frames/1").status == 404
    assert len(fresh.archive.asked) == 1


def test_a_new_revision_is_fetched_anew(fresh: Site) -> None:
    path = f"{MINE.path()}/metadata"
    for count in (1, 1, 2, 2):
        if len(fresh.archive.asked) < count and count == 2:
            fresh.world.set_study(MINE, revision=next(_revisions))
        assert fresh.dicom(path).status == 200
        assert len(fresh.archive.asked) == count


def test_whole_studies_and_what_has_no_owner_are_not_kept(fresh: Site) -> None:
    for _ in range(2):
        assert (
            fresh.dicom(f"/studies/{MINE.study}", Accept="multipart/related; type=application/dicom").status
            == 200
        )
    assert len(fresh.archive.asked) == 2
    assert fresh.dicom(f"{UNOWNED.path()}/frames/1", fresh.world.rita).status == 200
    assert len(fresh.archive.asked) == 2


FAULTS = [
    (0, 503),
    (401, 502),
    (403, 502),
    (404, 404),
    (410, 404),
    (429, 503),
    (302, 502),
    (501, 502),
    (503, 503),
    (507, 503),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS)
def test_a_failing_archive_is_told_in_the_gateways_words_and_not_kept(
    fault: int, status: int, site: Site
) -> None:
    site.world.set_study(MINE, revision=next(_revisions))
    site.archive.fault = fault
    answer = site.dicom(f"{MINE.path()}/frames/1")
    site.archive.fault = None
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.data)["status"] == status
    assert b"archive.internal" not in answer.data
    assert b"OrthancError" not in answer.data
    assert "Location" not in answer.headers
    for name, value in SAFE_HEADERS.items():
        assert answer.headers.getlist(name) == [value], name
    assert site.dicom(f"{MINE.path()}/frames/1").status == 200


@pytest.mark.parametrize("fault", [400, 406, 415, 500])
def test_what_nginx_is_refused_the_gateway_asks_for_itself(fault: int, site: Site) -> None:
    """The archive's fault is on nginx's way alone; the gateway finds the form that it does give."""
    site.world.set_study(MINE, revision=next(_revisions))
    site.archive.fault = fault
    answer = site.dicom(f"{MINE.path()}/frames/1")
    refused = site.dicom(f"{THEIRS.path()}/frames/1")
    site.archive.fault = None
    assert (answer.status, refused.status) == (200, 404)
    whole = site.dicom(f"{MINE.path()}/frames/1")
    assert _parts(answer) == _parts(whole)
    for name, value in SAFE_HEADERS.items():
        assert answer.headers.getlist(name) == [value], name


def test_ranges_and_head_are_answered(fresh: Site) -> None:
    path = f"{MINE.path()}/frames/1"
    whole = fresh.dicom(path)
    part = fresh.dicom(path, Range="bytes=10-19")
    assert (part.status, part.data) == (206, whole.data[10:20])
    head = fresh.dicom(path, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(whole.data)))
    assert len(fresh.archive.asked) == 1


INTERNAL = "/_archive/{revision}/multipart,application,octet-stream,any{path}/frames/1"


@pytest.mark.parametrize(
    "spelled",
    [
        "{0}",
        "/{0}",
        "/./{1}",
        "/x/..{0}",
        "/%5farchive{2}",
        "/_archive%2f{3}",
        "//_archive{2}",
        "/dicom-web/..{0}",
        "/dicom-web/%2e%2e{0}",
        "/auth/..{0}",
        "/auth/%2e%2e{0}",
        "{0}?x=1",
        "{0}#x",
        "/_ARCHIVE{2}",
    ],
)
def test_the_internal_location_cannot_be_asked_for(spelled: str, site: Site) -> None:
    site.world.set_study(MINE, revision=(revision := next(_revisions)))
    assert site.dicom(f"{MINE.path()}/frames/1").status == 200
    target = INTERNAL.format(revision=revision, path=MINE.path())
    below = target.removeprefix("/_archive")
    path = spelled.format(target, target[1:], below, below[1:])
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost:{site.nginx.https_port}\r\n"
        f"Authorization: Bearer {site.world.rita}\r\nX-Accel-Redirect: {target}\r\nConnection: close\r\n\r\n"
    )
    answer = site.nginx.raw(request.encode())
    assert b"multipart" not in answer
    status = int(answer.split(b" ", 2)[1])
    assert status in {400, 404} or (status == 200 and b"<title>viewer" in answer)


def test_pictures_of_two_sizes_are_two_answers(fresh: Site) -> None:
    sizes = set()
    for side in (8, 16, 24):
        answer = fresh.dicom(f"{MINE.path()}/rendered?viewport={side},{side}", Accept="image/png")
        with Image.open(BytesIO(answer.data)) as picture:
            sizes.add(picture.width)
    assert sizes == {8, 16, 24}


def test_the_explorers_answers_hand_nothing_over(site: Site) -> None:
    site.world.set_study(MINE, revision=(revision := next(_revisions)))
    inside = INTERNAL.format(revision=revision, path=MINE.path())
    application = site.gateway.application
    site.gateway.application = Response("of Orthanc", headers={"X-Accel-Redirect": inside})
    answer = site.nginx.get("/orthanc/app/explorer.html")
    site.gateway.application = application
    assert answer.data == b"of Orthanc"
    assert "X-Accel-Redirect" not in answer.headers


def test_no_other_service_can_hand_over(site: Site) -> None:
    site.world.set_study(MINE, revision=(revision := next(_revisions)))
    site.keycloak.extra = {"X-Accel-Redirect": INTERNAL.format(revision=revision, path=MINE.path())}
    answer = site.nginx.get("/auth/realms/clinicpacs")
    site.keycloak.extra = {}
    assert json.loads(answer.data)["path"] == "/auth/realms/clinicpacs"
    assert "X-Accel-Redirect" not in answer.headers


JP2, STORED = (
    f'multipart/related; type="{form}"'
    for form in ("image/jp2", 'application/octet-stream"; transfer-syntax="*')
)
UNKNOWN = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.3'


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"{MINE.path('CT')}/frames/1", STORED, 200),
        (f"{MINE.path('CT')}/frames/1", f"{JP2}, {STORED}; q=0.5", 200),
        (f"{MINE.path('CT')}/frames/1", JP2, 406),
        (f"{MINE.path('CT')}/frames/1", UNKNOWN, 406),
        (f"{MINE.path('CT')}/frames/99", STORED, 404),
        (f"{MINE.path('CT')}/frames/99", JP2, 404),
        (f"{MINE.path('SR')}/frames/1", STORED, 404),
        (f"{MINE.path('SR')}/frames/1", JP2, 404),
    ],
)
def test_what_orthanc_refuses_is_answered_by_the_gateway(
    path: str, accept: str, status: int, orthanc_site: Site
) -> None:
    site = orthanc_site
    site.world.set_study(MINE, revision=next(_revisions), settled=True)
    got = site.dicom(path, Accept=accept)
    assert got.status == status
    for name, value in SAFE_HEADERS.items():
        assert got.headers.getlist(name) == [value], name
    with streaming(site) as world:
        expected = world.get(path, Accept=accept)
    assert _parts(got) == split(expected.content_type, expected.data)


def _parts(answer: BaseHTTPResponse) -> tuple[str, list[bytes]]:
    return split(answer.headers["Content-Type"], answer.data)
