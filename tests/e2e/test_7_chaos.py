"""Two minutes of chaos: the importer is killed over and over while archive and database come and go."""

from __future__ import annotations

import os
import random
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import corpus
from support.inbox import copy_in, failed, processed
from support.stack import wait_until
from support.viewer import kept_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from support.stack import Stack

CLINIC, NAME = "northside", "chaos"
STUDIES, INSTANCES, KILLS = 15, 20, 10
SEED = int(os.environ.get("CHAOS_SEED") or time.time_ns() % 1_000_000)


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def hand_over(stack: Stack) -> dict[str, str]:
    """The files of all studies; the digest of each by its path in the inbox."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - the host's user reads it
        folder = Path(scratch) / NAME
        for study in range(STUDIES):
            corpus.write_study(folder / f"{study:02}", "CT", instances=INSTANCES, seed=7_000_000 + study)
        copy_in(stack, CLINIC, folder, NAME)
        return {
            str(path.relative_to(folder.parent)): digest(path) for path in folder.rglob("*") if path.is_file()
        }


def filed(stack: Stack) -> dict[str, str]:
    """The same of processed, below the day's folder."""
    base = stack.path("processed", CLINIC)
    return {
        "/".join(path.relative_to(base).parts[1:]): digest(path) for path in processed(stack, CLINIC, NAME)
    }


def kill_importer(stack: Stack) -> None:
    stack.compose("kill", "--signal", "KILL", "importer")
    stack.compose("up", "--detach", "--no-deps", "importer")


def pass_time(seconds: float) -> None:
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began >= seconds, seconds + 30, "time passes", every=0.05)


def test_nothing_is_lost_doubled_or_half_done(clinics: Stack, sign_in: Callable[[str], Page]) -> None:
    """300 files, ten kills; meanwhile Orthanc is stopped for seconds, and PostgreSQL once."""
    if processed(clinics, CLINIC, NAME):
        pytest.skip("this stack was kept, and has these files")
    print(f"CHAOS_SEED={SEED}")  # noqa: T201 - pytest shows it for a test that failed
    moments = random.Random(SEED)
    handed = hand_over(clinics)
    for kill in range(KILLS):
        pass_time(moments.uniform(0.5, 5))
        if kill in {2, 6}:
            clinics.compose("stop", "--timeout", "5", "orthanc")
        if kill == 4:
            clinics.compose("restart", "--timeout", "5", "postgres")
        kill_importer(clinics)
        if kill in {3, 7}:
            clinics.compose("start", "orthanc")
    clinics.wait_until_healthy()
    wait_until(lambda: len(processed(clinics, CLINIC, NAME)) >= len(handed), 240, "all files are filed")
    assert filed(clinics) == handed
    assert failed(clinics, CLINIC, NAME) == []
    wait_until(lambda: clinics.metric(f'importer_waiting_files{{clinic="{CLINIC}"}}') == 0, 60, "none waits")
    page = sign_in("rita")
    for study in range(STUDIES):
        uid = corpus.sample_uid(7_000_000 + study, "study")
        wait_until(
            lambda uid=uid: listed(clinics, kept_token(page), uid) == INSTANCES,
            60,
            "the list is up to date",
        )
        found = clinics.get(f"/dicom-web/studies/{uid}/instances?limit=1000", kept_token(page)).json()
        uids = [each["00080018"]["Value"][0] for each in found]
        assert len(uids) == len(set(uids)) == INSTANCES


def listed(stack: Stack, token: str, study_uid: str) -> int:
    """How many instances the worklist tells of a study."""
    answer = stack.get(f"/dicom-web/studies?StudyInstanceUID={study_uid}&includefield=00201208", token)
    found = answer.json() if answer.status_code == 200 else []
    return int(found[0]["00201208"]["Value"][0]) if found else 0
