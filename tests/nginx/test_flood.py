"""One user who asks for everything is slowed down, then refused, and nobody else is.

The limits are those of the files, with less that passes at once and hardly anything that refills: nothing
depends on how fast the machine is.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from support.gateway import MINE, SOUTH, THEIRS
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.nginx_site import Site

pytestmark = pytest.mark.xdist_group("nginx")
FEW = 20
FRAME, SERIES = f"{MINE.path()}/frames/1", MINE.path().partition("/instances/")[0]
OHIFS = "multipart/related; type=application/octet-stream; transfer-syntax=*"
"""How it asks for frames, by our app-config.js."""
REFUSED_AT_ONCE = {
    "zone=caller:16m rate=100r/s": "zone=caller:16m rate=1r/m",
    "zone=dear:8m rate=20r/s": "zone=dear:8m rate=1r/m",
    "burst=4500 delay=1500": f"burst={FEW} nodelay",
    "burst=360 delay=60": f"burst={FEW // 2} nodelay",
}
NORA = "5f3a1c9e-0b7d-4e21-9c55-a1b2c3d4e5f6"


@pytest.fixture
def strict_site(make_site: Callable[..., Site]) -> Site:
    """One that lets few requests of a user pass, refuses the next, and forgets slowly."""
    return make_site(REFUSED_AT_ONCE)


def new_token(site: Site, padding: int = 36, name: str = "nora", **claims: object) -> str:
    """As a renewal brings it: of another number and another signature."""
    return site.world.issuer.token(name, jti=uuid4().hex.ljust(padding, "-"), **claims)


def statuses(site: Site, path: str, token: str, count: int, **headers: str) -> list[int]:
    return [site.dicom(path, token, **headers).status for _ in range(count)]


@pytest.mark.parametrize(
    ("one", "other"),
    [(NORA, NORA.replace("5f3a", "5f3b")), (f"f:{NORA}:nora", f"f:{NORA}:rita")],
    ids=["of Keycloak's own", "from a directory"],
)
def test_a_user_beyond_the_limit_is_refused_and_a_colleague_at_the_same_address_is_not(
    one: str, other: str, strict_site: Site
) -> None:
    token = new_token(strict_site, sub=one)
    assert statuses(strict_site, FRAME, token, FEW + 1) == [200] * (FEW + 1)
    answer = strict_site.dicom(FRAME, token)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    assert answer.headers["Content-Type"] == "application/problem+json"
    colleague = new_token(strict_site, name="rita", sub=other)
    assert statuses(strict_site, FRAME, colleague, FEW) == [200] * FEW


def test_a_user_beyond_the_limit_is_refused_below_orthanc_from_any_address(strict_site: Site) -> None:
    def ask(client: int, **headers: str) -> int:
        return strict_site.nginx.get("/orthanc/system", f"127.0.2.{client}", **headers).status

    bearer = {"Authorization": f"Bearer {new_token(strict_site, sub=NORA)}"}
    assert 429 not in [ask(client, **bearer) for client in range(1, FEW + 2)]
    assert ask(100, **bearer) == 429
    # A browser's cookie says nothing of whose it is.
    assert ask(100, Cookie="__Secure-clinicpacs-orthanc=x") != 429


@pytest.mark.parametrize("padding", [36, 37, 38])
def test_a_renewed_token_is_the_same_user(padding: int, strict_site: Site) -> None:
    """The subject begins at any of base64's three offsets."""
    found = [
        strict_site.dicom(FRAME, new_token(strict_site, padding, sub=NORA)).status for _ in range(FEW + 2)
    ]
    assert found == [200] * (FEW + 1) + [429]


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer  "])
def test_a_user_does_not_become_another_by_another_spelling(scheme: str, strict_site: Site) -> None:
    def ask(spelled: str) -> int:
        authorization = f"{spelled}{new_token(strict_site, sub=NORA)}"
        return strict_site.nginx.get(f"/dicom-web{FRAME}", Authorization=authorization).status

    assert [ask("Bearer ") for _ in range(FEW + 1)] == [200] * (FEW + 1)
    assert ask(scheme) == 429


def test_a_token_without_such_a_subject_counts_for_itself(strict_site: Site) -> None:
    token = new_token(strict_site, sub="n", typ=..., azp=..., realm_access=..., groups=...)
    found = statuses(strict_site, "/studies", token, FEW + 2)
    assert found == [401] * (FEW + 1) + [429]
    assert strict_site.dicom(FRAME, new_token(strict_site, sub=NORA)).status == 200


def test_beyond_what_passes_at_once_a_user_is_slowed_down_and_a_colleague_is_not(
    make_site: Callable[..., Site],
) -> None:
    slow = {"zone=caller:16m rate=100r/s": "zone=caller:16m rate=20r/m", "delay=1500": f"delay={FEW}"}
    site = make_site(slow)
    token = new_token(site, sub=NORA)

    def logged() -> list[str]:
        lines = site.nginx.log.read_text().splitlines()
        return [json.loads(line)["limit"] for line in lines if '"route":"frames"' in line]

    def outcome(token: str) -> str:
        before = len(logged())
        assert site.dicom(FRAME, token).status == 200
        return str(wait_until(lambda: logged()[before:], 20, "it is logged", every=0.01)[0])

    assert [outcome(token) for _ in range(FEW)] == ["PASSED"] * FEW
    assert "DELAYED" in (outcome(token) for _ in range(100))
    assert outcome(new_token(site, name="rita", sub=f"another-{NORA}")) == "PASSED"


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (f"{FRAME}/rendered", "image/jpeg"),
        (f"{MINE.path()}/rendered", "image/png"),
        (f"{MINE.path()}/thumbnail", "*/*"),
        (FRAME, 'multipart/related; type="image/jpeg"'),
        (FRAME, "image/jp2"),
        (FRAME, 'multipart/related; type="image/jpeg"; transfer-syntax=*'),
        (FRAME, 'multipart/related; type="i\\mage/jpeg"; transfer-syntax=*'),
        (
            FRAME,
            'multipart/related; type="application/octet-stream"; transfer-syntax="\\1.2.840.10008.1.2.1"',
        ),
        (FRAME, "application/octet-stream, image/png; transfer-syntax=*"),
        (f"{MINE.path()}/rendered?viewport=256,256", "image/jpeg"),
        (f"{FRAME}?accept=image/jpeg", OHIFS),
        (f"{FRAME}?%61ccept=x", OHIFS),
        (f"{MINE.path()}?accept=application/dicom", "*/*"),
        (MINE.path(), "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80"),
        (MINE.path(), "application/dicom; transfer-syntax=1.2.840.10008.1.2.1.99"),
        (MINE.path(), 'multipart/related; type="application/dicom"; transfer-syntax="1.2.840.10008.1.2.5"'),
        (FRAME, f"{OHIFS}; q=0.1, application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.70"),
    ],
)
def test_what_costs_the_archive_work_is_limited_more_tightly(
    path: str, accept: str, strict_site: Site
) -> None:
    token = new_token(strict_site, sub=NORA)
    found = statuses(strict_site, path, token, FEW // 2 + 2, Accept=accept)
    assert [each == 429 for each in found] == [False] * (FEW // 2 + 1) + [True]


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (FRAME, OHIFS),
        (FRAME, 'multipart/related; type="application/octet-stream"; transfer-syntax="1.2.840.10008.1.2.1"'),
        (FRAME, 'multipart/related; type="application/octet-stream"'),
        (FRAME, "*/*"),
        (FRAME, ""),
        (f"{SERIES}/metadata", "application/dicom+json"),
        (MINE.path(), "application/dicom; transfer-syntax=*"),
        (MINE.path(), "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
    ],
)
def test_what_is_not_encoded_anew_is_not_limited_so(path: str, accept: str, strict_site: Site) -> None:
    token = new_token(strict_site, sub=NORA)
    assert statuses(strict_site, path, token, FEW, Accept=accept) == [200] * FEW


@pytest.fixture
def held(site: Site) -> Iterator[threading.Event]:
    """The archive answers nothing until it is set."""
    site.archive.asked.clear()
    site.archive.hold = threading.Event()
    yield site.archive.hold
    site.archive.hold.set()
    site.archive.hold = None


@pytest.mark.parametrize("path", [f"/studies/{MINE.study}", SERIES, f"{FRAME},2"])
def test_a_user_takes_four_studies_at_once_and_leaves_the_archives_threads_to_others(
    path: str, site: Site, held: threading.Event
) -> None:
    with ThreadPoolExecutor(5) as others:
        first = [others.submit(site.dicom, f"/studies/{MINE.study}") for _ in range(4)]
        wait_until(lambda: len(site.archive.asked) == 4, 20, "four are under way")
        assert site.dicom(path).status == 429
        colleague = site.world.issuer.token("sam", groups=[f"/clinics/{SOUTH}"])
        first.append(others.submit(site.dicom, f"/studies/{THEIRS.study}", colleague))
        wait_until(lambda: len(site.archive.asked) == 5, 20, "the colleague's is under way, too")
        held.set()
        assert [each.result().status for each in first] == [200] * 5
    assert site.dicom(f"/studies/{MINE.study}").status == 200


def test_a_user_has_four_lists_of_instances_made_at_once_and_a_colleague_gets_one_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, go_on = site.gateway.application, threading.Event()

    def waiting(*request: object) -> object:
        assert go_on.wait(30)
        return served(*request)

    def under_way() -> int:
        return len(site.gateway.asked) - before

    monkeypatch.setattr(site.gateway, "application", waiting)
    before, whole = len(site.gateway.asked), f"/studies/{MINE.study}/instances"
    of_ohif = f"{SERIES}/instances?limit=1&includefield=00080018"
    colleague = site.world.issuer.token("sam", groups=[f"/clinics/{SOUTH}"])
    with ThreadPoolExecutor(6) as others:
        try:
            found = [others.submit(site.dicom, whole) for _ in range(4)]
            wait_until(lambda: under_way() == 4, 20, "four are under way")
            for path in (
                f"{whole}?includefield=all",
                f"{SERIES}/instances?limit=1",
                f"{of_ohif}&limit=9",
                f"/instances?StudyInstanceUID={MINE.study}",
            ):
                assert site.dicom(path).status == 429, path
            found.append(others.submit(site.dicom, f"/studies/{THEIRS.study}/instances", colleague))
            found.append(others.submit(site.dicom, of_ohif))
            wait_until(lambda: under_way() == 6, 20, "the colleague's and a thumbnail's are under way, too")
        finally:
            go_on.set()
        assert 429 not in [each.result().status for each in found]
    assert site.dicom(whole).status == 200
