"""A browser's session at /orthanc: it goes on while the issuer says so, and not half a minute longer."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from admin.directory import NewUser
from gateway.explorer.cookies import Seal, session_cookie
from gateway.explorer.sessions import RENEW_SECONDS
from gateway.explorer.turns import Turns
from pacs.catalog import Catalog
from support.explorer import (
    NAVIGATION,
    PASSWORD,
    PEOPLE,
    PROTOCOL,
    SECRET,
    SESSION,
    Site,
    running_site,
    sign_in,
)
from support.gateway import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from werkzeug.test import TestResponse

    from support.orthanc import Orthanc

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
CLOCK = TurnedClock()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, orthanc: Orthanc
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    catalog = Catalog.open(SecretStr(f"sqlite:///{folder / 'catalog.db'}"))
    with running_site(folder, catalog, orthanc.url, CLOCK) as site:
        yield site
    catalog.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """Ada is an administrator, and the issuer is there."""
    yield running
    running.is_away = False
    clinics, roles = PEOPLE["ada"]
    running.directory.add_user(NewUser.of("ada", "ada@example.org", clinics, roles), PASSWORD)


@pytest.fixture
def cookie(site: Site) -> str:
    """Of ada's browser, who has just signed in."""
    with site.browser() as browser:
        sign_in(site, browser)
        site.asked.clear()
        return str(browser.cookies.get(SESSION))


def ask(
    site: Site, cookie: str, path: str = "/system", *, other: bool = False, **headers: str
) -> TestResponse:
    """As a page does with a cookie; of the other process, if told so."""
    gateway = site.another_gateway if other else site.gateway
    client = gateway.test_client(use_cookies=False)
    return client.get("/orthanc/system", headers={"Cookie": f"{SESSION}={cookie}", **headers})


def renewed(answer: TestResponse) -> str | None:
    """The cookie that an answer brings; empty when it takes the old one away."""
    for each in answer.headers.getlist("Set-Cookie"):
        if each.startswith(f"{SESSION}="):
            return each.partition("=")[2].partition(";")[0]
    return None


def test_a_session_is_renewed_while_the_page_goes_on(site: Site, cookie: str) -> None:
    for _ in range(4):
        CLOCK.turn(RENEW_SECONDS - 1)
        assert (ask(site, cookie).status_code, renewed(ask(site, cookie))) == (200, None)
        CLOCK.turn(1)
        answer = ask(site, cookie)
        assert answer.status_code == 200
        following = renewed(answer)
        assert following
        assert following != cookie
        cookie = following
    assert site.asked == ["refresh_token"] * 4


@pytest.mark.long
def test_after_a_break_the_session_goes_on(site: Site, cookie: str) -> None:
    CLOCK.turn(3600)
    answer = ask(site, cookie)
    assert answer.status_code == 200
    following = renewed(answer)
    assert following
    assert ask(site, following).status_code == 200


@pytest.mark.long
def test_of_requests_at_once_in_all_processes_one_renews(
    site: Site, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer ends the session of a refresh token that comes twice."""
    # However slowly twelve threads of a busy machine take turns.
    monkeypatch.setattr("gateway.explorer.turns._TURN_SECONDS", 60)
    CLOCK.turn(RENEW_SECONDS)
    together = threading.Barrier(12)
    answers: list[TestResponse] = []

    def one(number: int) -> None:
        together.wait(20)
        answers.append(ask(site, cookie, other=bool(number % 2)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 12
    assert site.asked == ["refresh_token"]
    # Whichever of the cookies the browser keeps, it is good for the next time.
    CLOCK.turn(RENEW_SECONDS)
    assert all(ask(site, str(renewed(answer))).status_code == 200 for answer in answers)
    assert site.asked == ["refresh_token"] * 2


@pytest.mark.long
def test_a_renewal_whose_answer_was_lost_is_found_again(site: Site, cookie: str) -> None:
    CLOCK.turn(RENEW_SECONDS)
    ask(site, cookie)
    CLOCK.turn(RENEW_SECONDS - 2)
    answer = ask(site, cookie, other=True)
    assert answer.status_code == 200
    assert renewed(answer)
    assert site.asked == ["refresh_token"]


def test_who_loses_the_role_at_the_issuer_is_out_within_half_a_minute(site: Site, cookie: str) -> None:
    assert ask(site, cookie).status_code == 200
    site.directory.set_roles("ada", [])
    CLOCK.turn(RENEW_SECONDS)
    answer = ask(site, cookie)
    assert answer.status_code == 403
    for each in (cookie, renewed(answer) or ""):
        assert ask(site, each).status_code == 403


def test_who_is_removed_at_the_issuer_is_signed_out_within_half_a_minute(site: Site, cookie: str) -> None:
    site.directory.remove_user("ada")
    CLOCK.turn(RENEW_SECONDS)
    answer = ask(site, cookie)
    assert (answer.status_code, renewed(answer)) == (401, "")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    # A page that is opened leads to the issuer, and nothing lets the old session in again.
    page = ask(site, cookie, **NAVIGATION)
    assert (page.status_code, renewed(page)) == (302, "")
    assert f"{PROTOCOL}/auth?" in page.headers["Location"]
    CLOCK.turn(RENEW_SECONDS)
    assert ask(site, cookie).status_code == 401


@pytest.mark.long
def test_a_session_ends_with_that_of_the_issuer(site: Site, cookie: str) -> None:
    CLOCK.turn(11 * 3600)
    answer = ask(site, cookie)
    assert (answer.status_code, renewed(answer)) == (401, "")
    assert site.asked == ["refresh_token"]


def test_an_issuer_that_is_away_opens_no_door_and_signs_nobody_out(site: Site, cookie: str) -> None:
    site.is_away = True
    assert ask(site, cookie).status_code == 200
    CLOCK.turn(RENEW_SECONDS)
    for other in (False, True, False):
        answer = ask(site, cookie, other=other)
        assert (answer.status_code, renewed(answer)) == (503, None)
    page = ask(site, cookie, **NAVIGATION)
    assert (page.status_code, page.mimetype) == (503, "text/html")
    # One waits for it, and the others are told.
    assert site.asked == ["refresh_token"]
    site.is_away = False
    CLOCK.turn(6)
    assert ask(site, cookie).status_code == 200


@pytest.mark.long
def test_a_copied_cookie_ends_with_the_session_that_it_was_copied_from(site: Site, cookie: str) -> None:
    CLOCK.turn(RENEW_SECONDS)
    following = renewed(ask(site, cookie))
    CLOCK.turn(RENEW_SECONDS)
    assert ask(site, cookie).status_code == 401
    # Who has the newer one has to sign in again: nobody knows which of them was the thief.
    assert ask(site, str(following)).status_code == 401


def test_a_cookie_that_is_not_ours_asks_the_issuer_nothing(site: Site, cookie: str) -> None:
    CLOCK.turn(RENEW_SECONDS)
    now = CLOCK.now()
    values = session_cookie(SecretStr(SECRET)).open(cookie, now)
    assert values
    foreign = session_cookie(SecretStr("another")).seal(values, now, 300)
    other_purpose = Seal("renewed sessions", SecretStr(SECRET)).close(values, now, 300)
    for each in (foreign, other_purpose, cookie[:-4], f"{cookie[:-8]}AAAAAAAA", "....", "x" * 5000):
        assert ask(site, each).status_code == 401
    assert site.asked == []
    assert ask(site, cookie).status_code == 200


# ---- What the processes share.


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Turns(Seal("turns", SecretStr(SECRET)), CLOCK)


def test_what_is_shared_is_nobody_elses_to_read(turns: Turns, tmp_path: Path) -> None:
    assert turns.once("a-refresh-token", lambda: ({"token": "an-access-token"}, 5))["token"]
    [folder] = tmp_path.iterdir()
    [file] = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    for secret in ("a-refresh-token", "an-access-token"):
        assert secret not in file.name + file.read_text()
    assert turns.once("a-refresh-token", lambda: ({"token": "another"}, 5))["token"] == "an-access-token"


@pytest.mark.parametrize("kind", ["open", "another's", "link", "file"])
def test_a_folder_that_others_may_have_laid_is_not_used(
    turns: Turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    turns.once("first", lambda: ({}, 5))
    [folder] = tmp_path.iterdir()
    if kind == "open":
        folder.chmod(0o777)
    elif kind == "another's":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    else:
        folder.rename(tmp_path / "elsewhere")
        if kind == "link":
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.touch()
    with pytest.raises(OSError, match="clinicpacs-gateway"):
        turns.once("second", lambda: pytest.fail("it was used"))
