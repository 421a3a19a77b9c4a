"""What a physician does in OHIF, and what is to be seen there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageStat
from playwright.sync_api import Page, TimeoutError, expect  # noqa: A004 - Playwright's own

from support import stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator


def listed(page: Page, wanted: set[str]) -> None:
    """The list shows exactly these accession numbers."""
    expect(page.locator("tr[aria-selected]")).to_have_count(len(wanted))
    for number in wanted:
        expect(page.get_by_text(number, exact=True)).to_be_visible()


def brightness(place: Locator) -> float:
    """Mean grey of what is drawn there, 0 to 255."""
    picture = Image.open(io.BytesIO(place.screenshot())).convert("L")
    width, height = picture.size
    middle = picture.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return float(ImageStat.Stat(middle).mean[0])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Fails with `what` when the condition does not come true."""
    stack.wait_until(condition, seconds, what, every=0.2)


def shows_up(page: Page, accession_number: str) -> bool:
    """Whether the study is in the list when the page is loaded anew."""
    page.reload()
    try:
        page.get_by_text(accession_number, exact=True).wait_for(timeout=15_000)
    except TimeoutError:
        return False
    return True


def open_study(page: Page, accession_number: str) -> Locator:
    """Opens a study of the list; its first viewport, once an image is drawn in it."""
    page.get_by_text(accession_number, exact=True).dblclick()
    page.wait_for_url("**/viewer?StudyInstanceUIDs=*")
    pane = page.locator("[data-cy=viewport-pane]").first
    wait_until(lambda: brightness(pane.locator("canvas").first) > 10, "the viewport stayed black")
    return pane


def sign_out(page: Page) -> None:
    """By the viewer's own menu; ends at the sign-in page."""
    page.locator("button").nth(-2).click()
    page.get_by_text("Logout").click()
    page.wait_for_url("**/auth/realms/clinicpacs/**")


def kept_token(page: Page) -> str:
    """The token that the viewer has now, whether or not it asks for anything; empty when it has none."""
    found = page.evaluate(
        "Object.entries(sessionStorage).filter(([key]) => key.startsWith('oidc.user:'))"
        ".map(([, value]) => JSON.parse(value).access_token)[0] || ''"
    )
    return str(found)


def access_token(page: Page) -> str:
    """The token that the viewer asks with."""
    with page.expect_request("**/dicom-web/**") as asked:
        page.reload()
    return str(asked.value.headers["authorization"]).removeprefix("Bearer ")
