"""What administrators do: clinics and users come and go; Orthanc's own pages are theirs alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import corpus
from support.browser import keep_picture
from support.inbox import copy_in, drop, processed
from support.keycloak import Keycloak
from support.people import Physician
from support.stack import wait_until
from support.viewer import access_token, shows_up
from support.viewer import wait_until as wait_for_page
from support.watching import Asker

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page

    from support.stack import Stack


def test_a_clinic_is_added_served_and_deactivated(
    clinics: Stack, new_context: Callable[[], BrowserContext]
) -> None:
    clinics.make("add-clinic", CLINIC_ID="westside", CLINIC_NAME='Westside "A" & sons')
    assert 'Westside "A" & sons' in clinics.clinicpacs("status", "--json").stdout.replace("\\", "")
    wanda = Physician.added(clinics, "wanda", clinic="westside")
    drop(clinics, "westside", "first", "CR", instances=1, seed=4001)
    page = wanda.sign_in(new_context().new_page())
    wait_for_page(lambda: shows_up(page, "A4001"), "the new clinic's study did not show up")
    token = access_token(page)
    assert clinics.get("/dicom-web/studies?limit=1", token).status_code == 200

    clinics.make("deactivate-clinic", CLINIC_ID="westside", YES="1")
    assert clinics.get("/dicom-web/studies?limit=1", token).status_code == 403
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        corpus.write_study(Path(scratch) / "late", "CR", instances=1, seed=4002)
        target = copy_in(clinics, "westside", Path(scratch) / "late", "late")
    # Another clinic's files go on, and these stay.
    drop(clinics, "northside", "meanwhile", "CR", instances=1, seed=4003)
    assert not processed(clinics, "westside", "late")
    assert len(list(target.iterdir())) == 1


def test_a_removed_users_token_is_refused_at_once(
    clinics: Stack, new_context: Callable[[], BrowserContext]
) -> None:
    leaver = Physician.added(clinics, "leaver", clinic="northside")
    page = leaver.sign_in(new_context().new_page())
    token = access_token(page)
    assert clinics.get("/dicom-web/studies?limit=1", token).status_code == 200
    clinics.make("remove-user", USERNAME="leaver", YES="1")
    assert clinics.get("/dicom-web/studies?limit=1", token).status_code == 401
    page.goto(clinics.url)
    page.wait_for_url("**/auth/realms/clinicpacs/**")
    page.locator("#username").fill("leaver")
    page.locator("#password").fill(leaver.password)
    page.locator("#kc-login").click()
    page.get_by_text("Invalid username or password").wait_for()


def test_orthancs_own_pages_are_the_administrators(clinics: Stack, sign_in: Callable[[str], Page]) -> None:
    assert clinics.get("/orthanc/system").status_code == 401
    assert clinics.get("/orthanc/system", access_token(sign_in("dr.smith"))).status_code == 403
    assert clinics.get("/orthanc/system", access_token(sign_in("rita"))).status_code == 403
    page = sign_in("ada")
    assert clinics.get("/orthanc/system", access_token(page)).status_code == 200
    assert clinics.get("/orthanc/system", clinics.scripts_token()).json()["ApiVersion"] > 0

    page.goto(f"{clinics.url}/orthanc/")
    page.wait_for_url("**/orthanc/app/explorer.html*")
    page.get_by_text("Lookup").first.wait_for()
    keep_picture(page, "orthanc-explorer")
    [cookie] = [each for each in page.context.cookies() if each["path"] == "/orthanc"]
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert cookie["sameSite"] == "Strict"


@pytest.mark.parametrize("change", ["without-role", "removed"])
def test_an_administrator_who_is_taken_out_in_keycloaks_own_pages_loses_orthanc_within_a_minute(
    change: str, clinics: Stack, new_context: Callable[[], BrowserContext]
) -> None:
    """While Explorer is open and asks, by the cookie that is renewed on the way."""
    user = Physician.added(clinics, f"alma.{change}", role="pacs-admin")
    page = user.sign_in(new_context().new_page())
    page.goto(f"{clinics.url}/orthanc/")
    page.wait_for_url("**/orthanc/app/explorer.html*")
    explorer = Asker(page)
    explorer.ask_past_a_renewal()
    keycloak = Keycloak.of(clinics)
    account = keycloak.account(user.name)
    if change == "removed":
        keycloak.delete_user(account)
        seconds = explorer.until_shut_out(status=401)
    else:
        keycloak.take_role(account, "pacs-admin")
        seconds = explorer.until_shut_out(status=403)
    clinics.seconds[f"{change} in Keycloak's pages, until /orthanc is closed"] = seconds
    for cookie in explorer.cookies:
        headers = {"Cookie": f"__Secure-clinicpacs-orthanc={cookie}"}
        assert clinics.get("/orthanc/studies", headers=headers).status_code in {401, 403}


def test_a_physicians_browser_is_refused_at_orthancs_pages(
    clinics: Stack, sign_in: Callable[[str], Page]
) -> None:
    page = sign_in("dr.smith")
    with page.expect_response(lambda got: "/orthanc/" in got.url and got.status == 403) as refused:
        page.goto(f"{clinics.url}/orthanc/")
    assert "administrator" in refused.value.text()
    keep_picture(page, "orthanc-refused")


def test_what_administrators_did_is_in_the_audit_trail(clinics: Stack) -> None:
    clinics.get("/orthanc/statistics", clinics.scripts_token())
    said = wait_until(
        lambda: (
            "/statistics" in (text := clinics.clinicpacs("audit", "--limit", "100000", "--json").stdout)
            and text
        ),
        120,
        "an audit row",
    )
    assert "add-clinic" in said
    assert "remove-user" in said


@pytest.mark.parametrize("page", ["/auth/admin/master/console/", "/auth/realms/clinicpacs/account/"])
def test_keycloaks_own_pages_are_reached(clinics: Stack, page: str) -> None:
    answer = clinics.get(page)
    assert answer.status_code == 200
    assert "keycloak" in answer.text.lower()


@pytest.mark.parametrize("secret", ["archive-password", "database-passwords", "client-secrets"])
def test_after_a_rotation_all_parts_know_each_other(
    secret: str, clinics: Stack, sign_in: Callable[[str], Page]
) -> None:
    before = clinics.settings
    clinics.make("rotate", SECRET=secret, YES="1")
    assert clinics.settings != before
    assert clinics.unhealthy() == []
    seed = 4100 + len(secret)
    drop(clinics, "northside", f"after-{secret}", "CT", instances=2, seed=seed)
    page = sign_in("nora")
    wait_for_page(lambda: shows_up(page, f"A{seed}"), "what came after the rotation is not listed")
    assert clinics.get("/orthanc/statistics", clinics.scripts_token()).status_code == 200
