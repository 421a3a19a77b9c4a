"""/orthanc in a real browser: cookies, redirects and policies as Chromium understands them."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pydicom
import pytest
import requests
from playwright.sync_api import Error, Page
from pydicom.uid import generate_uid

from support import browser as chromium
from support.corpus import instance_bytes
from support.explorer import PASSWORD, Site, running_site
from support.orthanc import PASSWORDS, Orthanc, orthanc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from pacs.catalog import Catalog

__all__ = ["orthanc"]
pytestmark = [pytest.mark.demo, pytest.mark.timeout(300), pytest.mark.xdist_group("demo")]

ELSEWHERE = "https://elsewhere.example/"
MARKUP = "<img src=x onerror=document.title='run'>"


@pytest.fixture
def site(tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc) -> Iterator[Site]:
    with running_site(tmp_path, sqlite_catalog, orthanc.url) as running:
        yield running


@pytest.fixture
def study(orthanc: Orthanc) -> str:
    """Orthanc's own id of a study whose description is markup."""
    uids = [generate_uid() for _ in range(3)]
    dataset = pydicom.dcmread(
        io.BytesIO(instance_bytes("CT", study_uid=uids[0], series_uid=uids[1], sop_instance_uid=uids[2]))
    )
    dataset.StudyDescription = dataset.SeriesDescription = MARKUP
    content = io.BytesIO()
    dataset.save_as(content)
    head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
    requests.post(
        f"{orthanc.dicomweb_url}/studies",
        data=head + content.getvalue() + b"\r\n--x--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
        auth=(orthanc.username, orthanc.password),
        timeout=30,
    ).raise_for_status()
    return uids[0]


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of another site, with a link and a form that lead to /orthanc."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1300, "height": 850})
    context.set_default_timeout(60_000)
    html = (
        f'<a href="{site.url}/orthanc/">link</a>'
        f'<form method="post" action="{site.url}/orthanc/tools/lookup"><button>send</button></form>'
    )
    context.route(f"{ELSEWHERE}**", lambda route: route.fulfill(content_type="text/html", body=html))
    yield context.new_page()
    context.close()


def sign_in(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/orthanc/")
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/orthanc/app/explorer.html*")


def follow_link(page: Page) -> None:
    page.goto(ELSEWHERE)
    page.get_by_text("link").click()


def until(condition: Callable[[], bool], page: Page) -> None:
    """Chromium drops what it loads when a network interface of the machine comes or goes: load it again."""
    deadline = time.monotonic() + 120
    while True:
        try:
            if condition():
                return
        except Error:
            pass
        assert time.monotonic() < deadline, page.content()
        page.goto(page.url.replace("explorer.html?", "explorer.html?again&"))


def shows(page: Page, text: str) -> bool:
    page.get_by_text(text).first.wait_for(timeout=15_000)
    return True


def test_a_link_of_another_site_leads_to_explorer(site: Site, page: Page) -> None:
    """A Strict cookie stays behind on such a navigation and on its redirects: no loop may come of it."""
    follow_link(page)
    page.wait_for_url("**/auth/realms/**")
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/orthanc/app/explorer.html*")
    # Signed in at the issuer and here, and still the first request of the second visit has no cookie.
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url) if each.is_navigation_request() else None)
    follow_link(page)
    page.wait_for_url("**/orthanc/app/explorer.html*")
    assert sum("/orthanc/callback?" in url for url in asked) == 1
    assert {each["name"]: each["sameSite"] for each in page.context.cookies(f"{site.url}/orthanc/x")} == {
        "__Secure-clinicpacs-orthanc": "Strict"
    }


def test_a_form_of_another_site_does_nothing(site: Site, page: Page) -> None:
    sign_in(site, page)
    page.goto(ELSEWHERE)
    with page.expect_response("**/orthanc/tools/lookup") as answer:
        page.get_by_text("send").click()
    assert answer.value.status == 401
    assert "cookie" not in answer.value.request.all_headers()


def test_explorer_shows_and_deletes_and_runs_nothing_of_an_image(
    site: Site, page: Page, study: str, orthanc: Orthanc
) -> None:
    found = requests.post(
        f"{orthanc.url}/tools/lookup", data=study, auth=("admin", PASSWORDS["admin"]), timeout=30
    ).json()
    known = found[0]["ID"]
    blocked: list[str] = []
    page.on("console", lambda each: blocked.append(each.text) if "Content Security" in each.text else None)
    sign_in(site, page)
    page.goto(f"{site.url}/orthanc/app/explorer.html?1#study?uuid={known}")
    until(lambda: shows(page, "Delete this study"), page)
    chromium.keep_picture(page, "explorer-study")
    assert page.title() == "Orthanc Explorer"
    page.evaluate("document.body.insertAdjacentHTML('beforeend', \"" + MARKUP + '")')
    assert page.title() == "Orthanc Explorer"
    page.get_by_text("Delete this study").first.click()
    with page.expect_response(lambda each: each.request.method == "DELETE") as answer:
        page.get_by_text("OK", exact=True).first.click()
    assert answer.value.status == 200
    assert [each for each in blocked if "onerror" not in each and "inline event" not in each] == []
    assert blocked, "the markup that was put in was not blocked"
