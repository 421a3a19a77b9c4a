"""A browser's way to /orthanc: through the issuer, back with a cookie, and out again."""

from __future__ import annotations

import re
import secrets
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import delete, select, text

from gateway.clock import Clock
from gateway.explorer.cookies import sign_in_cookie
from gateway.explorer.sessions import SESSION_SECONDS
from pacs.catalog import Catalog
from pacs.catalog.schema import audit, revocations
from support.explorer import (
    NAVIGATION,
    PENDING,
    PROTOCOL,
    SECRET,
    SESSION,
    Site,
    at_issuer,
    attributes,
    begin,
    running_site,
    sign_in,
)
from support.gateway import TurnedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.orthanc import Orthanc

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Catalog]:
    path = tmp_path_factory.mktemp("site") / "catalog.db"
    shutil.copyfile(sqlite_template, path)
    opened = Catalog.open(SecretStr(f"sqlite:///{path}"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, orthanc: Orthanc) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("issuer"), catalog, orthanc.url) as running:
        yield running


@pytest.fixture
def browser(site: Site) -> Iterator[requests.Session]:
    with site.browser() as session:
        yield session


def test_an_administrator_comes_back_to_the_page_that_was_asked_for(
    site: Site, browser: requests.Session
) -> None:
    answer = sign_in(site, browser, path="/orthanc/system?a=1&b=%22%3E%3Cscript%3E")
    assert answer.status_code == 200
    onward = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text)
    assert onward
    assert onward[1] == "/orthanc/system?a=1&amp;b=%22%3E%3Cscript%3E"
    assert "sandbox" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "private, no-store"
    page = browser.get(f"{site.url}/orthanc/app/explorer.html")
    assert (page.status_code, "Orthanc Explorer" in page.text) == (200, True)


def test_the_cookies_are_kept_from_scripts_and_other_sites(site: Site, browser: requests.Session) -> None:
    first = browser.get(f"{site.url}/orthanc/", allow_redirects=False)
    pending = attributes(first, PENDING)
    assert "HttpOnly" in pending
    assert "Secure" in pending
    assert (pending["Path"], pending["SameSite"]) == ("/orthanc/callback", "Lax")
    answer = sign_in(site, browser)
    session = attributes(answer, SESSION)
    assert "HttpOnly" in session
    assert "Secure" in session
    assert "Domain" not in session
    assert (session["Path"], session["SameSite"]) == ("/orthanc", "Strict")
    # A browser that is closed forgets them.
    for cookie in (pending, session):
        assert not {"Max-Age", "Expires"} & cookie.keys()
    assert attributes(answer, PENDING)["Max-Age"] == "0"
    # The token is not to be read from a browser's disk either.
    assert "eyJ" not in session[SESSION].replace(session[SESSION].partition(".")[0], "")


def test_the_issuer_is_asked_with_pkce_state_and_nonce(site: Site, browser: requests.Session) -> None:
    asked, again = begin(site, browser), begin(site, browser)
    assert asked["client_id"] == "orthanc-explorer"
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == f"{site.url}/orthanc/callback"
    assert asked["code_challenge_method"] == "S256"
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[name]) >= 40
        assert asked[name] != again[name]


def test_a_script_is_told_401_and_never_redirected(site: Site) -> None:
    for headers in (
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        NAVIGATION | {"Sec-Fetch-Mode": "cors"},
        NAVIGATION | {"Sec-Fetch-Dest": "iframe"},
    ):
        answer = requests.get(
            f"{site.url}/orthanc/", headers=headers, verify=False, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 401
        assert "Set-Cookie" not in answer.headers
    answer = requests.post(f"{site.url}/orthanc/", headers=NAVIGATION, verify=False, timeout=10)
    assert answer.status_code == 401


def test_a_physician_is_told_whom_to_ask_and_gets_no_cookie(
    site: Site, browser: requests.Session, catalog: Catalog
) -> None:
    answer = sign_in(site, browser, "nora")
    assert answer.status_code == 403
    assert "administrator" in answer.text
    assert "/orthanc/sign-out" in answer.text
    assert SESSION not in browser.cookies
    with catalog.read() as connection:
        rows = connection.execute(
            select(audit.c.username, audit.c.allowed).where(audit.c.action == "archive-sign-in")
        ).all()
    assert rows[-1] == ("nora", False)


def test_a_state_that_is_not_this_browsers_signs_nobody_in(site: Site, browser: requests.Session) -> None:
    with site.browser() as other:
        foreign = at_issuer(site, other, "ada", begin(site, other))
    # No sign-in was begun here.
    assert browser.get(foreign, allow_redirects=False).status_code == 400
    # One was, but this code belongs to another one.
    begin(site, browser)
    assert browser.get(foreign, allow_redirects=False).status_code == 400
    assert SESSION not in browser.cookies


def test_a_sign_in_of_another_tab_is_left_as_it_is(site: Site, browser: requests.Session) -> None:
    first, second = (begin(site, browser) for _ in range(2))
    answer = browser.get(at_issuer(site, browser, "ada", first), allow_redirects=False)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False)
    # The issuer knows the browser by now.
    assert browser.get(f"{site.url}{PROTOCOL}/auth?{urlencode(second)}").status_code == 200
    assert browser.cookies.get(SESSION, path="/orthanc")
    assert browser.cookies.get(PENDING, path="/orthanc/callback") is None


@pytest.mark.parametrize("changes", [{"state": "x" * 43}, {"iss": "https://evil.example/realm"}])
def test_a_good_code_alone_signs_nobody_in(
    site: Site, browser: requests.Session, changes: dict[str, str]
) -> None:
    back = urlsplit(at_issuer(site, browser, "ada", begin(site, browser)))
    query = {name: each[0] for name, each in parse_qs(back.query).items()} | changes
    answer = browser.get(f"{site.url}/orthanc/callback?{urlencode(query)}", allow_redirects=False)
    assert answer.status_code == 400
    assert SESSION not in browser.cookies


def test_a_code_without_its_verifier_is_worth_nothing(site: Site, browser: requests.Session) -> None:
    """Whoever gets hold of a code puts it behind a state of their own."""
    with site.browser() as other:
        stolen = parse_qs(urlsplit(at_issuer(site, other, "ada", begin(site, other))).query)["code"][0]
    state = begin(site, browser)["state"]
    query = urlencode({"code": stolen, "state": state})
    answer = browser.get(f"{site.url}/orthanc/callback?{query}", allow_redirects=False)
    assert answer.status_code == 400
    assert SESSION not in browser.cookies


def test_the_nonce_binds_the_tokens_to_the_sign_in(site: Site, browser: requests.Session) -> None:
    asked = begin(site, browser)
    back = at_issuer(site, browser, "ada", {**asked, "nonce": "x" * 43})
    answer = browser.get(back, allow_redirects=False)
    assert answer.status_code == 502
    assert SESSION not in browser.cookies


def test_a_sign_in_is_for_one_use(site: Site, browser: requests.Session) -> None:
    asked = begin(site, browser)
    kept = browser.cookies.get(PENDING, path="/orthanc/callback")
    back = at_issuer(site, browser, "ada", asked)
    assert browser.get(back, allow_redirects=False).status_code == 200
    assert browser.get(back, allow_redirects=False).status_code == 400
    # Nor with a copy of the cookie that was taken away.
    headers = {"Cookie": f"{PENDING}={kept}"}
    answer = requests.get(back, headers=headers, verify=False, allow_redirects=False, timeout=10)
    assert answer.status_code == 400
    assert "took too long or was used already" in answer.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"error": "access_denied", "error_description": "<script>x</script>"}, 403),
        ({"code": ""}, 403),
        ({"code": "a-code-of-nobody"}, 400),
        ({"state": ""}, 400),
        ({"state": "é"}, 400),
        ({"iss": "https://evil.example/realm"}, 400),
    ],
)
def test_what_goes_wrong_is_a_page_without_details(
    site: Site, browser: requests.Session, changes: dict[str, str], status: int
) -> None:
    query = {"code": "x", "state": begin(site, browser)["state"]} | changes
    answer = browser.get(f"{site.url}/orthanc/callback?{urlencode(query)}", allow_redirects=False)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'href="/orthanc/' in answer.text
    assert not any(value in answer.text for value in changes.values() if value)
    assert SESSION not in browser.cookies


def test_a_parameter_that_comes_twice_signs_nobody_in(site: Site, browser: requests.Session) -> None:
    back = at_issuer(site, browser, "ada", begin(site, browser))
    assert browser.get(f"{back}&code=other", allow_redirects=False).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/",
        "/orthanc//evil.example/",
        "/orthanc/%2F%2Fevil.example",
        "/orthanc/\\evil.example",
        "/orthanc/https://evil.example/",
        "/orthanc/system?next=https://evil.example/",
        "/orthanc/callback?next=//evil.example/",
    ],
)
def test_nobody_is_sent_to_another_site(site: Site, browser: requests.Session, path: str) -> None:
    request = requests.Request("GET", site.url).prepare()
    request.headers.update(NAVIGATION)
    request.url = site.url + path
    answer = browser.send(request, verify=False, allow_redirects=False)
    if answer.status_code != 302:
        assert answer.status_code in {400, 404}
        return
    cookie = sign_in_cookie(SecretStr(SECRET))
    opened = cookie.open(attributes(answer, PENDING)[PENDING], Clock().now())
    assert opened
    assert opened["onward"] == "/orthanc/system?next=https://evil.example/"


def test_an_address_too_long_for_a_cookie_leads_to_the_first_page(
    site: Site, browser: requests.Session
) -> None:
    answer = sign_in(site, browser, path=f"/orthanc/system?a={secrets.token_urlsafe(2900)}")
    assert 'content="0;url=/orthanc/"' in answer.text


def test_signing_out_ends_the_session_here_and_at_the_issuer(
    tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc
) -> None:
    clock = TurnedClock(Clock().now())
    with running_site(tmp_path, sqlite_catalog, orthanc.url, clock) as site, site.browser() as browser:
        sign_in(site, browser)
        copied = {"Cookie": f"{SESSION}={browser.cookies.get(SESSION, path='/orthanc')}", "Accept": "*/*"}
        clock.turn(SESSION_SECONDS / 2)  # the access token in it has long expired
        answer = browser.get(f"{site.url}/orthanc/sign-out", allow_redirects=False)
        assert answer.status_code == 302
        place = urlsplit(answer.headers["Location"])
        assert f"{place.scheme}://{place.netloc}{place.path}" == f"{site.url}{PROTOCOL}/logout"
        query = {"client_id": ["orthanc-explorer"], "post_logout_redirect_uri": [f"{site.url}/orthanc/"]}
        assert parse_qs(place.query) == query
        assert SESSION not in browser.cookies
        # Whoever comes next is asked for a password, whether the browser went on to the issuer or not.
        assert 'name="password"' in browser.get(f"{site.url}/orthanc/").text
        assert 'name="password"' in browser.get(answer.headers["Location"]).text
        assert requests.get(f"{site.url}/orthanc/system", headers=copied, verify=False).status_code == 401
    with sqlite_catalog.read() as connection:
        rows = connection.execute(
            select(audit.c.username, audit.c.allowed, audit.c.detail).where(
                audit.c.action == "archive-sign-out"
            )
        ).all()
    assert rows == [("ada", True, "GET /sign-out 302")]


def test_a_link_that_brings_no_session_along_ends_none(
    site: Site, browser: requests.Session, catalog: Catalog
) -> None:
    """A browser keeps the cookie back when another site leads to it."""
    sign_in(site, browser)
    signed_out = text("SELECT count(*) FROM audit WHERE action = 'archive-sign-out'")
    with catalog.read() as connection:
        before = connection.scalar(signed_out)
    for cookie in ("", f"{SESSION}=forged"):
        answer = requests.get(
            f"{site.url}/orthanc/sign-out", headers={"Cookie": cookie}, verify=False, allow_redirects=False
        )
        assert answer.status_code == 302
    assert browser.get(f"{site.url}/orthanc/system", headers={"Accept": "*/*"}).status_code == 200
    page = browser.get(answer.headers["Location"])
    assert "Sign out?" in page.text
    with catalog.read() as connection:
        assert connection.scalar(signed_out) == before


def test_who_signs_out_is_out_here_though_nobody_can_be_told(
    tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc
) -> None:
    with running_site(tmp_path, sqlite_catalog, orthanc.url) as site, site.browser() as browser:
        sign_in(site, browser)
        site.is_away = True
        with sqlite_catalog.write() as connection:
            connection.execute(text("ALTER TABLE audit RENAME TO audit_away"))
        answer = browser.get(f"{site.url}/orthanc/sign-out", allow_redirects=False)
        assert answer.status_code == 302
        assert SESSION not in browser.cookies


def test_a_revoked_session_has_to_sign_in_again(
    site: Site, browser: requests.Session, catalog: Catalog
) -> None:
    sign_in(site, browser)
    assert browser.get(f"{site.url}/orthanc/system", headers={"Accept": "*/*"}).status_code == 200
    with catalog.read() as connection:
        subject = connection.scalar(select(audit.c.subject).where(audit.c.username == "ada").limit(1))
    later = Clock().now() + timedelta(seconds=2)
    with catalog.write() as connection:
        connection.execute(revocations.insert().values(subject=subject, issued_before=later))
    try:
        answer = browser.get(f"{site.url}/orthanc/system", headers={"Accept": "*/*"})
        assert answer.status_code == 401
        begin(site, browser)
    finally:
        with catalog.write() as connection:
            connection.execute(delete(revocations))


def test_an_issuer_that_is_down_opens_no_door(
    tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc
) -> None:
    down = {"oidc_token_url": "http://127.0.0.1:1/token"}
    with running_site(tmp_path, sqlite_catalog, orthanc.url, **down) as site, site.browser() as browser:
        answer = sign_in(site, browser)
        assert answer.status_code == 503
        assert SESSION not in browser.cookies
        assert "identity provider" in answer.text
        for page in (answer.text, str(answer.headers)):
            assert "127.0.0.1:1" not in page


def test_an_issuer_without_discovery_is_a_503_at_the_start(
    tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc
) -> None:
    # The gateway does not trust the certificate, so that it cannot read the discovery document.
    nowhere = {"oidc_token_url": ""}
    with running_site(tmp_path, sqlite_catalog, orthanc.url, **nowhere) as site, site.browser() as browser:
        answer = browser.get(f"{site.url}/orthanc/", allow_redirects=False)
        assert answer.status_code == 503
        out = browser.get(f"{site.url}/orthanc/sign-out", allow_redirects=False)
        assert (out.status_code, "signed out here" in out.text) == (200, True)


def test_a_wrong_secret_is_the_installations_fault(
    tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc
) -> None:
    wrong = {"explorer_client_secret": SecretStr("another")}
    with running_site(tmp_path, sqlite_catalog, orthanc.url, **wrong) as site, site.browser() as browser:
        answer = sign_in(site, browser)
        assert answer.status_code == 502
        assert SESSION not in browser.cookies
