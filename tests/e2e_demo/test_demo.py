"""The demo as a new user meets it: one URL, signing in, the study list, the viewer, the inbox."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from demo.samples import SAMPLES
from pacs.settings import INSTALLATION_FILE

# `support` is tests/support; tests/conftest.py puts it on the path.
from support.corpus import SamplePatient, make_instance, to_bytes, write_study
from support.viewer import brightness, kept_token, listed, open_study, shows_up, sign_out, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Dialog, Page

    from .conftest import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(300), pytest.mark.xdist_group("demo")]

NORTHSIDE = {sample.accession for sample in SAMPLES if sample.clinic == "northside"}
SOUTHSIDE = {sample.accession for sample in SAMPLES if sample.clinic == "southside"}
MR_ACCESSION = "NA250001"
MARKUP = "<img src=x-ran onerror=document.title='run'>"
# "=" parts the ways of writing a name, and "^" its family from its given name.
HOSTILE = SamplePatient(MARKUP, "<script>alert(1)</script>^<iframe src>")


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("nora", NORTHSIDE),
        ("sam", SOUTHSIDE),
        ("rita", NORTHSIDE | SOUTHSIDE),
        ("ada", NORTHSIDE | SOUTHSIDE),
    ],
)
def test_each_user_sees_the_studies_that_are_theirs(
    sign_in: Callable[[str], Page], screenshot: Callable[[Page, str], None], user: str, wanted: set[str]
) -> None:
    page = sign_in(user)
    listed(page, wanted)
    screenshot(page, f"list-{user}")


def test_a_volume_opens_scrolls_and_shows_in_three_planes(
    sign_in: Callable[[str], Page], screenshot: Callable[[Page, str], None]
) -> None:
    page = sign_in("nora")
    pane = open_study(page, MR_ACCESSION)
    screenshot(page, "volume")
    position = pane.locator("[data-cy=viewport-overlay-bottom-right]")
    first = position.inner_text()
    pane.hover()
    page.mouse.wheel(0, 400)
    expect(position).not_to_have_text(first)
    page.locator("[data-cy=Layout]").click()
    page.get_by_text("MPR", exact=True).click()
    panes = page.locator("[data-cy=viewport-pane]")
    expect(panes).to_have_count(3)
    for number in range(3):
        canvas = panes.nth(number).locator("canvas").first
        wait_until(lambda canvas=canvas: brightness(canvas) > 10, "a plane stayed black")
    screenshot(page, "viewer")


def test_the_viewer_renews_its_token_while_someone_scrolls(
    sign_in: Callable[[str], Page], demo: Demo
) -> None:
    """Once in each life of a token, not again and again; and no picture is missing."""
    page = sign_in("nora")
    renewals: list[str] = []
    refused: list[str] = []
    page.on("request", lambda sent: renewals.append(sent.url) if sent.url.endswith("/token") else None)
    page.on("response", lambda got: refused.append(got.url) if got.status in {401, 403} else None)
    pane = open_study(page, MR_ACCESSION)
    first = kept_token(page)
    wait_until(lambda: kept_token(page) != first, "the token is not renewed")
    second, before = kept_token(page), len(renewals)
    pane.hover()

    def scrolled_into_the_next() -> bool:
        page.mouse.wheel(0, 60)
        return kept_token(page) != second

    wait_until(scrolled_into_the_next, "the token is not renewed a second time")
    assert len(renewals) - before == 1
    assert refused == []
    assert brightness(pane.locator("canvas").first) > 10


def test_signing_out_asks_for_a_sign_in_again(sign_in: Callable[[str], Page], demo: Demo) -> None:
    page = sign_in("nora")
    listed(page, NORTHSIDE)
    sign_out(page)
    page.goto(demo.url)
    expect(page.get_by_label("User name")).to_be_visible()


def test_a_dropped_folder_shows_up_for_its_clinic_only(
    sign_in: Callable[[str], Page], demo: Demo, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    write_study(folder, "CT", instances=3, seed=4711)
    (folder / "broken.dcm").write_bytes(b"this is no DICOM file")
    nora, sam = sign_in("nora"), sign_in("sam")
    subprocess.run(["cp", "-r", folder, demo.data / "inbox" / "northside"], check=True)

    wait_until(lambda: shows_up(nora, "A4711"), "the study did not show up")
    sam.reload()
    listed(sam, SOUTHSIDE)
    # It is listed when its first files are: the copy may have taken longer than one look of the importer.
    wait_until(lambda: len(list(demo.data.glob("processed/northside/*/export/*"))) == 3, "not all are filed")
    found = demo.data.glob
    wait_until(lambda: any(found("failed/northside/*/export/broken.dcm")), "the broken one has not failed")
    failed = next(demo.data.glob("failed/northside/*/export/broken.dcm.error.json"))
    assert json.loads(failed.read_text())["reason"] == "not-dicom"
    assert failed.with_name("broken.dcm").read_bytes() == b"this is no DICOM file"


def test_markup_in_an_image_is_shown_as_text_and_runs_nowhere(
    sign_in: Callable[[str], Page], screenshot: Callable[[Page, str], None], demo: Demo, tmp_path: Path
) -> None:
    folder = tmp_path / "markup"
    folder.mkdir()
    for number in range(1, 4):
        ds = make_instance("CT", seed=4713, instance_number=number, patient=HOSTILE, description=MARKUP)
        ds.SeriesDescription = MARKUP
        (folder / f"{number}.dcm").write_bytes(to_bytes(ds))
    subprocess.run(["cp", "-r", folder, demo.data / "inbox" / "northside"], check=True)
    page = sign_in("nora")
    ran = signs_of_markup(page)
    wait_until(lambda: shows_up(page, "A4713"), "the study did not show up")
    row = page.locator("tr[aria-selected]", has_text="A4713")
    title = page.title()
    expect(row.get_by_text("<script>alert(1)</script>, <iframe src>", exact=True)).to_be_visible()
    expect(row.get_by_text(MARKUP, exact=True)).to_have_count(2)  # the patient id and the description
    row.click()  # for the panel beside the list
    screenshot(page, "markup-list")
    open_study(page, "A4713")
    expect(page.get_by_text(MARKUP).first).to_be_visible()
    screenshot(page, "markup-viewer")
    assert page.title() == title
    assert ran == []

    # So it looks when markup becomes part of the page.
    with (
        page.expect_console_message(lambda said: "inline event" in said.text),
        page.expect_request("**/x-ran"),
    ):
        page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", MARKUP)
    assert len(ran) == 2


def signs_of_markup(page: Page) -> list[str]:
    """What shows that markup became part of a page, as it happens: its picture, its script, or a refusal."""
    signs: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        signs.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", on_dialog)
    page.on("request", lambda sent: signs.append(sent.url) if sent.url.endswith("x-ran") else None)
    page.on("console", lambda said: signs.append(said.text) if "inline event" in said.text else None)
    return signs


def test_a_clinic_and_a_user_are_added_by_one_command_each(
    sign_in: Callable[[str], Page], demo: Demo, tmp_path: Path
) -> None:
    demo.add_clinic("westside", "wanda")
    write_study(tmp_path / "first", "MR", instances=2, seed=4712)
    subprocess.run(["cp", "-r", tmp_path / "first", demo.data / "inbox" / "westside"], check=True)
    wanda = sign_in("wanda")

    wait_until(lambda: shows_up(wanda, "A4712"), "the new clinic was not served")
    status = demo.clinicpacs("status")
    assert status.returncode == 0
    assert "westside" in status.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["conflicts"],
        ["retry", "northside"],
        ["dismiss", "northside", "--yes"],
        ["reindex"],
        ["status", "--json"],
    ],
)
def test_every_command_works_beside_the_running_demo(demo: Demo, arguments: list[str]) -> None:
    done = demo.clinicpacs(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_this_machine_only(demo: Demo) -> None:
    ours = subprocess.run(["pgrep", "-f", str(demo.data)], capture_output=True, text=True, check=False)
    sockets = set()
    for pid in [*ours.stdout.split(), *children_of(demo.process.pid)]:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):  # closed meanwhile
                kind, _, number = str(fd.readlink()).partition("[")
                if kind == "socket:":
                    sockets.add(number.rstrip("]"))
    listening = "0A"
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    addresses = {row[1].partition(":")[0] for row in rows if row[3] == listening and row[9] in sockets}
    assert addresses == {"0100007F"}


def children_of(pid: int) -> list[str]:
    """All descendants of a process."""
    found: list[str] = []
    parents = [pid]
    while parents:
        listed = subprocess.run(
            ["pgrep", "-P", ",".join(map(str, parents))], capture_output=True, text=True, check=False
        ).stdout.split()
        found += listed
        parents = [int(each) for each in listed]
    return found


def test_a_second_demo_on_the_same_port_is_refused_in_one_sentence(demo: Demo, tmp_path: Path) -> None:
    port = demo.url.rpartition(":")[2]
    done = demo.start_another(DEMO_PORT=port, DATA_PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"clinicpacs: DEMO_PORT: port {port} is in use")


def test_a_second_demo_on_the_same_folder_is_refused_and_leaves_it_alone(demo: Demo) -> None:
    """It wrote where its own parts were to be, and no command found those of the first one any more."""
    told = (demo.data / INSTALLATION_FILE).read_text()
    done = demo.start_another(DEMO_PORT="0", DATA_PATH=str(demo.data))
    assert done.returncode == 2
    assert done.stderr == (
        f"clinicpacs: DATA_PATH: another demo runs in {demo.data}; stop it or choose another DATA_PATH\n"
    )
    assert (demo.data / INSTALLATION_FILE).read_text() == told


def test_sigterm_stops_everything_and_a_second_start_finds_all_as_it_was(
    demo: Demo, restart: Callable[[], None], sign_in: Callable[[str], Page]
) -> None:
    children = subprocess.run(
        ["pgrep", "-f", str(demo.data)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert children
    demo.stop()
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "a process was left behind", 30
    )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(demo.url.rpartition(":")[2]))) != 0
    restart()
    page = sign_in("sam")
    listed(page, SOUTHSIDE)
