"""What the catalog does not say, nobody is let into; and what cannot be put on record, nobody sees."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from support.importing import wait_until
from support.marked import marks_in
from support.platform import MINE, STRAY, THEIRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.platform import Platform
    from support.postgres import Cluster

pytestmark = pytest.mark.xdist_group("isolation")
OPENED = [
    "/studies", f"/studies/{MINE.study}", f"/studies/{MINE.study}/series",
    f"/studies/{MINE.study}/metadata", f"{MINE.path()}/frames/1", f"{MINE.path()}/rendered",
    f"{MINE.path()}/bulk/7fe00010", f"/studies/{THEIRS.study}/metadata", f"{THEIRS.path()}/frames/1",
    f"/studies/{STRAY.study}/metadata",
]  # fmt: skip


@contextmanager
def without(platform: Platform, table: str) -> Iterator[None]:
    with platform.site.catalog.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
    try:
        yield
    finally:
        with platform.site.catalog.write() as connection:
            connection.execute(text(f"ALTER TABLE {table}_away RENAME TO {table}"))


def test_a_stray_study_is_a_404_for_all_but_those_who_see_all(any_platform: Platform) -> None:
    for who in ("nora", "sam", "ada"):
        for tail in (
            "",
            "/series",
            "/instances",
            "/metadata",
            "/rendered",
            f"/series/{STRAY.series()}/metadata",
        ):
            assert any_platform.dicom(f"/studies/{STRAY.study}{tail}", who).status == 404
        assert any_platform.dicom(f"{STRAY.path()}/frames/1", who).status == 404
    for who in ("rita", "alma"):
        answer = any_platform.dicom(f"{STRAY.path()}/frames/1", who)
        assert (answer.status, marks_in(answer.body)) == (200, {STRAY.mark})


def test_a_catalog_that_answers_nothing_is_a_503_and_no_open_door(any_platform: Platform) -> None:
    # What they have opened is on record, which is not asked about again for a while.
    for who in ("nora", "sam", "rita"):
        for path in OPENED:
            any_platform.dicom(path, who)
    with without(any_platform, "revocations"):
        for who in ("nora", "sam", "rita", "alma", "noel", "gwen"):
            for path in OPENED:
                answer = any_platform.dicom(path, who)
                # Of a table that is missing PostgreSQL says that the question was wrong.
                assert answer.status == 503 or (
                    answer.status == 500 and not any_platform.site.catalog.is_sqlite
                )
                assert not marks_in(answer.body)
    assert any_platform.dicom(f"/studies/{MINE.study}/metadata").status == 200


def test_a_postgresql_that_lets_nobody_in_is_a_503(
    postgresql_platform: Platform, postgres_cluster: Cluster
) -> None:
    platform = postgresql_platform
    name = platform.site.catalog._engine.url.database
    try:
        postgres_cluster._sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres_cluster._sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        for who in ("nora", "sam", "rita"):
            for path in OPENED:
                answer = platform.dicom(path, who)
                assert (answer.status, marks_in(answer.body)) == (503, set()), path
    finally:
        postgres_cluster._sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    wait_until(lambda: platform.dicom(f"/studies/{MINE.study}/metadata").status == 200)


def test_what_cannot_be_put_on_record_is_not_shown(any_platform: Platform) -> None:
    platform = any_platform
    # Somebody whose opening of the study is not on record yet.
    platform.tokens["nele"] = platform.site.token("nele")
    with without(platform, "audit"):
        for path in OPENED[1:]:
            answer = platform.dicom(path, "nele")
            assert answer.status in {404, 500, 503}
            assert not marks_in(answer.body)
        assert platform.dicom(f"{MINE.path()}/frames/1", "nele").status in {500, 503}
    assert platform.dicom(f"{MINE.path()}/frames/1", "nele").status == 200


def test_an_archive_that_is_away_shows_nobody_what_is_not_theirs(any_platform: Platform) -> None:
    """Only what the cache holds is shown then, and only to those who may see it."""
    frame = f"{THEIRS.path('CT', 2)}/frames/1"
    assert any_platform.dicom(frame, "sam").status == 200
    process = any_platform.orthanc.process
    with stopped(process.pid):
        assert any_platform.dicom(frame, "nora").status == 404
        answer = any_platform.dicom(frame, "sam")
        assert (answer.status, marks_in(answer.body)) == (200, {THEIRS.mark})


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
