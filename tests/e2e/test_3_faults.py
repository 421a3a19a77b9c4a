"""Parts stop and come back while files are under way: nothing fails that should wait, and all arrive."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import pytest

from support import corpus
from support.inbox import copy_in, failed, processed
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.stack import Stack

CLINIC = "denscan-almaty"
STUDIES, INSTANCES = 20, 10


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

    def all_arrive() -> None:
        total = STUDIES * INSTANCES
        wait_until(lambda: len(processed(clinics, CLINIC, name)) == total, 240, "all files are filed")
        assert failed(clinics, CLINIC, name) == []
        wait_until(
            lambda: clinics.metric('importer_waiting_files{clinic="denscan-almaty"}') == 0, 60, "none waits"
        )

    return all_arrive


def test_orthanc_is_away_for_a_minute(clinics: Stack, under_way: Callable[[], None]) -> None:
    clinics.compose("stop", "orthanc")
    wait_until(
        lambda: clinics.metric("importer_archive_up") == 0, 90, "the importer says that it cannot store"
    )
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 60, 90, "a minute passes", every=5)
    clinics.compose("start", "orthanc")
    under_way()
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


def test_tokens_work_while_keycloak_is_away(clinics: Stack) -> None:
    # Its connections to the database, which was restarted before, come back within seconds.
    token = wait_until(lambda: clinics.scripts_token(check=False), 60, "Keycloak issues a token")
    clinics.compose("stop", "keycloak")
    try:
        assert clinics.get("/orthanc/system", token).status_code == 200
        assert clinics.get("/auth/realms/clinicpacs").status_code == 503
    finally:
        clinics.compose("start", "keycloak")
        clinics.wait_until_healthy()
    assert clinics.get("/orthanc/system", clinics.scripts_token()).status_code == 200


def test_nginx_is_reloaded_between_two_frames(clinics: Stack, sign_in: Callable[[str], Page]) -> None:
    page = sign_in("dr.smith")
    clinics.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
    page.reload()
    page.get_by_text("Study List").first.wait_for()
    page.locator("tr[aria-selected]").first.wait_for()
