"""Signing in through Keycloak, and who sees which study, in a real browser."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.browser import keep_picture
from support.inbox import drop
from support.keycloak import Keycloak
from support.people import Physician
from support.viewer import (
    access_token,
    brightness,
    kept_token,
    listed,
    open_study,
    shows_up,
    sign_out,
    wait_until,
)
from support.watching import Scroller

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page, Request, Response

    from support.stack import Stack

ALMATY, NORTHSIDE = "A1001", "A1002"


@pytest.fixture(scope="module", autouse=True)
def _studies(clinics: Stack) -> None:
    """One study of each clinic."""
    drop(clinics, "denscan-almaty", "first", "CT", instances=12, seed=1001)
    drop(clinics, "northside", "first", "MR", instances=6, seed=1002)


def test_the_first_sign_in_asks_for_a_password_of_ones_own(
    people: dict[str, Physician], new_context: Callable[[], BrowserContext]
) -> None:
    user = people["dr.smith"]
    page = new_context().new_page()
    page.goto(user.url)
    page.wait_for_url("**/auth/realms/clinicpacs/**")
    keep_picture(page, "sign-in")
    temporary = user.temporary
    user.enter(page)
    expect(page.get_by_text("Study List").first).to_be_visible()
    assert user.temporary is None

    if temporary:  # a stack that was kept has used it before
        again = new_context().new_page()
        again.goto(user.url)
        again.locator("#username").fill(user.name)
        again.locator("#password").fill(temporary)
        again.locator("#kc-login").click()
        expect(again.locator("#username")).to_be_visible()
        expect(again.get_by_text("Invalid username or password")).to_be_visible()


def test_a_physician_finds_opens_and_scrolls_the_clinics_study(sign_in: Callable[[str], Page]) -> None:
    page = sign_in("dr.smith")
    wait_until(lambda: shows_up(page, ALMATY), "the dropped study did not show up")
    listed(page, {ALMATY})
    keep_picture(page, "list-dr.smith")
    pane = open_study(page, ALMATY)
    position = pane.locator("[data-cy=viewport-overlay-bottom-right]")
    first = position.inner_text()
    pane.hover()
    page.mouse.wheel(0, 400)
    expect(position).not_to_have_text(first)
    keep_picture(page, "viewer-dr.smith")


def test_another_clinics_user_sees_nothing_of_it(sign_in: Callable[[str], Page], clinics: Stack) -> None:
    smith, nora = sign_in("dr.smith"), sign_in("nora")
    wait_until(lambda: shows_up(nora, NORTHSIDE), "the dropped study did not show up")
    listed(nora, {NORTHSIDE})
    open_study(smith, ALMATY)
    address = smith.url
    answers: list[Response] = []
    nora.on("response", lambda got: answers.append(got) if "/dicom-web/studies" in got.url else None)
    with nora.expect_response(lambda got: "/dicom-web/studies/" in got.url and got.status == 404):
        nora.goto(address)
    assert all(got.status == 404 or got.text() == "[]" for got in answers)
    keep_picture(nora, "foreign-study")


@pytest.mark.parametrize("user", ["rita", "ada"])
def test_who_reads_across_clinics_sees_both(sign_in: Callable[[str], Page], user: str) -> None:
    page = sign_in(user)
    wait_until(lambda: shows_up(page, ALMATY) and shows_up(page, NORTHSIDE), "not both are listed")
    expect(page.get_by_text(ALMATY, exact=True)).to_be_visible()
    expect(page.get_by_text(NORTHSIDE, exact=True)).to_be_visible()


def test_a_user_without_a_clinic_is_told_whom_to_ask(
    people: dict[str, Physician], new_context: Callable[[], BrowserContext]
) -> None:
    user = people["stray"]
    page = new_context().new_page()
    page.goto(user.url)
    user.enter(page)
    page.wait_for_url("**/no-access.html")
    expect(page.get_by_text("Ask your administrator")).to_be_visible()
    keep_picture(page, "no-clinic")


def test_signing_out_ends_the_session(sign_in: Callable[[str], Page], clinics: Stack) -> None:
    page = sign_in("nora")
    token = access_token(page)
    assert clinics.get("/dicom-web/studies?limit=1", token).status_code == 200
    sign_out(page)
    page.goto(clinics.url)
    expect(page.locator("#username")).to_be_visible()


def test_the_viewer_goes_on_when_the_access_token_has_expired(
    sign_in: Callable[[str], Page], clinics: Stack
) -> None:
    """The token is renewed in the background, and what is asked then bears the new one."""
    page = sign_in("dr.smith")
    used: list[str] = []

    def note(request: Request) -> None:
        if "/dicom-web/" in request.url:
            used.append(request.headers.get("authorization", ""))

    page.on("request", note)
    wait_until(lambda: shows_up(page, ALMATY), "the study is not listed")
    # On a slow machine it may have been renewed meanwhile.
    first = used[0].removeprefix("Bearer ")
    expires = _claims(first)["exp"]
    assert expires - _claims(first)["iat"] == int(clinics.settings["ACCESS_TOKEN_SECONDS"])
    wait_until(lambda: time.time() > expires + 31, "time passes", 180)
    assert clinics.get("/dicom-web/studies?limit=1", first).status_code == 401
    pane = open_study(page, ALMATY)
    assert brightness(pane.locator("canvas").first) > 10
    assert used[-1] != used[0]


@pytest.mark.parametrize("change", ["moved", "removed"])
def test_who_is_taken_out_in_keycloaks_own_pages_loses_the_study_within_a_minute(
    change: str, clinics: Stack, new_context: Callable[[], BrowserContext]
) -> None:
    """While the physician scrolls, and the viewer renews its token."""
    user = Physician.added(clinics, f"mona.{change}", clinic="denscan-almaty")
    page = user.sign_in(new_context().new_page())
    wait_until(lambda: shows_up(page, ALMATY), "the study is not listed")
    open_study(page, ALMATY).hover()
    viewer = Scroller(page, lambda path, token: clinics.get(path, token).status_code)
    viewer.scroll_past_a_renewal()
    keycloak = Keycloak.of(clinics)
    account = keycloak.account(user.name)
    if change == "moved":
        keycloak.leave_groups(account)
        seconds = viewer.until_shut_out(renewals_answer=200, led_to="**/no-access.html")
    else:
        keycloak.delete_user(account)
        seconds = viewer.until_shut_out(renewals_answer=400, led_to="**/auth/realms/clinicpacs/**")
    clinics.seconds[f"{change} in Keycloak's pages, until the study is closed"] = seconds


def test_a_moved_users_viewer_is_refused_at_once(
    clinics: Stack, new_context: Callable[[], BrowserContext]
) -> None:
    user = Physician.added(clinics, "mona.told", clinic="denscan-almaty")
    page = user.sign_in(new_context().new_page())
    wait_until(lambda: shows_up(page, ALMATY), "the study is not listed")
    token = kept_token(page)
    assert clinics.get("/dicom-web/studies", token).status_code == 200
    clinics.make("move-user", USERNAME=user.name, CLINIC="northside")
    assert clinics.get("/dicom-web/studies", token).status_code == 401
    wait_until(lambda: shows_up(page, NORTHSIDE), "the study of the new clinic is not listed")
    listed(page, {NORTHSIDE})


def _claims(token: str) -> dict[str, int]:
    payload = token.split(".")[1]
    claims: dict[str, int] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
