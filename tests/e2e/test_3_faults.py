"""Parts stop and come back while files are under way: nothing fails that should wait, and all arrive."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from playwright.sync_api import expect

from support import corpus
from support.inbox import copy_in, drop, failed, processed
from support.stack import wait_until
from support.viewer import access_token, brightness, open_study, shows_up
from support.viewer import wait_until as wait_for_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.stack import Stack

CLINIC = "denscan-almaty"
STUDIES, INSTANCES = 30, 20


@pytest.fixture
def under_way(clinics: Stack, request: pytest.FixtureRequest) -> Callable[[], None]:
    """200 files on their way into the archive; what is given waits until all are filed and none failed."""
    name = request.node.name
    if processed(clinics, CLINIC, name):
        pytest.skip("this stack was kept, and has these files")
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - pathlib has no other
        folder = Path(scratch) / name
        for study in range(STUDIES):
            seed = crc32(name.encode()) % 10_000_000 * 100 + study
            corpus.write_study(folder / f"{study:02}", "CT", instances=INSTANCES, seed=seed)
        copy_in(clinics, CLINIC, folder, name)

    total = STUDIES * INSTANCES
    wait_until(
        lambda: 0 < len(processed(clinics, CLINIC, name)) < total, 60, "an import under way", every=0.02
    )

    def all_arrive() -> None:
        wait_until(lambda: len(processed(clinics, CLINIC, name)) == total, 240, "all files are filed")
        assert failed(clinics, CLINIC, name) == []
        wait_until(
            lambda: clinics.metric('importer_waiting_files{clinic="denscan-almaty"}') == 0, 120, "none waits"
        )

    return all_arrive


def test_orthanc_is_away_for_a_minute(clinics: Stack, under_way: Callable[[], None]) -> None:
    clinics.compose("stop", "orthanc")
    # A fast machine has stored all of them by now, and who has nothing to store notices nothing.
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - pathlib has no other
        corpus.write_study(Path(scratch) / "late", "CT", instances=2, seed=3002)
        copy_in(clinics, CLINIC, Path(scratch) / "late", "late")
    wait_until(
        lambda: clinics.metric("importer_archive_up") == 0, 90, "the importer says that it cannot store"
    )
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 60, 90, "a minute passes", every=5)
    clinics.compose("start", "orthanc")
    under_way()
    wait_until(lambda: len(processed(clinics, CLINIC, "late")) == 2, 120, "what came meanwhile is filed")
    clinics.wait_until_healthy()


def test_postgresql_is_restarted(clinics: Stack, under_way: Callable[[], None]) -> None:
    clinics.compose("restart", "postgres")
    under_way()
    clinics.wait_until_healthy()


def test_the_importer_is_killed(clinics: Stack, under_way: Callable[[], None]) -> None:
    clinics.compose("kill", "--signal", "KILL", "importer")
    clinics.compose("up", "--detach", "--no-deps", "importer")
    under_way()
    clinics.wait_until_healthy()


def test_tokens_work_while_keycloak_is_away(clinics: Stack, sign_in: Callable[[str], Page]) -> None:
    # Its connections to the database, which was restarted before, come back within seconds.
    wait_until(lambda: clinics.scripts_token(check=False), 60, "Keycloak issues a token")
    physicians = access_token(sign_in("nora"))
    token = clinics.scripts_token()
    clinics.compose("stop", "--timeout", "5", "keycloak")
    try:
        assert clinics.get("/orthanc/system", token).status_code == 200
        assert clinics.get("/dicom-web/studies?limit=1", physicians).status_code == 200
        assert clinics.get("/auth/realms/clinicpacs").status_code == 503
    finally:
        clinics.compose("start", "keycloak")
        clinics.wait_until_healthy()
    assert clinics.get("/orthanc/system", clinics.scripts_token()).status_code == 200


def test_nginx_is_reloaded_between_two_frames(clinics: Stack, sign_in: Callable[[str], Page]) -> None:
    drop(clinics, "northside", "reload", "MR", instances=12, seed=3001)
    page = sign_in("nora")
    wait_for_page(lambda: shows_up(page, "A3001"), "the study did not show up")
    pane = open_study(page, "A3001")
    position = pane.locator("[data-cy=viewport-overlay-bottom-right]")
    before = position.inner_text()
    clinics.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
    pane.hover()
    page.mouse.wheel(0, 600)
    expect(position).not_to_have_text(before)
    assert brightness(pane.locator("canvas").first) > 10
