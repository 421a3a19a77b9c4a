"""The study list of a clinic with more studies than OHIF asks for by itself, of patients from everywhere."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.corpus import SamplePatient, make_instance, to_bytes
from support.viewer import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from .conftest import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(300), pytest.mark.xdist_group("demo")]

FIRST = 52_000
NAMES = ["Äneas^Åke", "Müller^Jürgen", "Yamada^Tarou=山田^太郎=やまだ^たろう", "No^Mod"]
STUDIES = 120


def studies_of(clinic: str, demo: Demo) -> dict[str, int]:
    """How many studies a clinic has, by how far they are."""
    status = json.loads(demo.clinicpacs("status", "--json").stdout)
    return next(each["studies"] for each in status["clinics"] if each["id"] == clinic)


@pytest.fixture(scope="module")
def eastside(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user whose clinic has 120 studies."""
    demo.add_clinic("eastside", "emil")
    folder: Path = tmp_path_factory.mktemp("many") / "export"
    folder.mkdir()
    for number in range(STUDIES):
        name = NAMES[number] if number < len(NAMES) else "Sample^Aurora"
        patient = SamplePatient(f"E-{number:03}", name)
        (folder / f"{number}.dcm").write_bytes(to_bytes(make_instance(seed=FIRST + number, patient=patient)))
    subprocess.run(["cp", "-r", folder, demo.data / "inbox" / "eastside"], check=True)
    all_listed = {"confirmed": STUDIES, "provisional": 0, "dirty": 0, "missing": 0}
    wait_until(lambda: studies_of("eastside", demo) == all_listed, "not all studies are in the list")
    return "emil"


def test_every_study_of_a_long_list_can_be_paged_to(
    sign_in: Callable[[str], Page], screenshot: Callable[[Page, str], None], eastside: str
) -> None:
    page = sign_in(eastside)
    further = page.get_by_role("button", name="Next page")
    for shown in ("1-50 of 120", "51-100 of 120"):
        expect(page.get_by_text(shown)).to_be_visible(timeout=60_000)
        further.click()
    expect(page.get_by_text("101-120 of 120")).to_be_visible(timeout=60_000)
    expect(further).to_be_disabled()
    expect(page.locator("tr[aria-selected]")).to_have_count(20)
    screenshot(page, "list-long")


def test_what_the_gateway_finds_is_shown_whatever_letters_the_list_has(
    sign_in: Callable[[str], Page], eastside: str
) -> None:
    """By name and by patient id, which has a column at this width (1,440 px)."""
    page = sign_in(eastside)
    expect(page.get_by_role("button", name="Sort MRN")).to_be_visible(timeout=60_000)
    boxes = page.locator("table input")
    name, patient_id = boxes.nth(0), boxes.nth(1)
    rows = page.locator("tr[aria-selected]")
    for box, typed, number in (
        (name, "ANEAS", 0),
        (name, "muller", 1),
        (name, "山田", 2),
        (name, "No^Mod", 3),
        (patient_id, "E-?42", 42),
    ):
        box.fill(typed)
        expect(rows).to_have_count(1, timeout=60_000)
        expect(page.get_by_text(f"A{FIRST + number}", exact=True)).to_be_visible()
        box.fill("")
        expect(rows).to_have_count(50, timeout=60_000)
