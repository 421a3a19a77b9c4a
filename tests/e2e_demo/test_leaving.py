"""Who is taken out at the issuer itself, of which our commands know nothing, is out within a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from admin.directory import NewUser
from admin.directory.embedded import EmbeddedDirectory
from support.viewer import open_study
from support.watching import Scroller

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from .conftest import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(300), pytest.mark.xdist_group("demo")]

MR_ACCESSION = "NA250001"


@pytest.mark.parametrize("change", ["moved", "removed"])
def test_who_scrolls_in_a_study_is_shut_out_within_a_minute(
    change: str, demo: Demo, sign_in: Callable[[str], Page]
) -> None:
    directory = EmbeddedDirectory(demo.data / "identity.db")
    name = f"mona-{change}"
    directory.add_user(NewUser.of(name, f"{name}@northside.example", ["northside"], []), "demo")
    page = sign_in(name)
    open_study(page, MR_ACCESSION).hover()

    def ask(path: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{demo.url}{path}", headers=headers, timeout=30).status_code

    viewer = Scroller(page, ask)
    viewer.scroll_past_a_renewal()
    if change == "moved":
        directory.set_clinics(name, [])
        viewer.until_shut_out(renewals_answer=200, led_to="**/no-access.html")
    else:
        directory.remove_user(name)
        viewer.until_shut_out(renewals_answer=400, led_to="**/auth/realms/clinicpacs/**")
    directory.database.close()
