"""`clinicpacs prune`: only what has just been verified is deleted from processed."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from admin.platform import Platform
from admin.pruning import Order, Pruner, first_kept_day
from admin.settings import AdminSettings
from admin.verifying.outcome import Outcome
from admin.verifying.verifier import Verifier
from admin.verifying.versions import Versions
from pacs.catalog import ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import Uid
from support.corpus import instance_bytes, sample_uid
from support.dicom_files import tag_bytes
from support.processed import flip, imported, in_archive, put
from support.site import NORTH, NOW, SOUTH, Site, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime.now().astimezone().replace(hour=12)
OLD, YOUNG, TODAY = (f"{(NOON - timedelta(days=days)).date()}" for days in (31, 30, 0))


@pytest.fixture(autouse=True)
def same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the last test: midnight may come between."""
    monkeypatch.setattr(Platform, "now", staticmethod(lambda: NOON))


def left(site: Site) -> set[str]:
    root = site.data / "processed"
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def prune(site: Site, *options: str, exit_code: int = 0) -> str:
    result = site.run("prune", "--older-than", "30d", "--yes", *options)
    assert result.exit_code == exit_code, result.output
    return result.stdout


def test_what_is_old_and_verified_is_deleted_with_its_folders(site: Site) -> None:
    site.add_clinics()
    with site.archive() as archive:
        for path in ("a/deep/1.dcm", "a/2.dcm", "3.dcm"):
            imported(site, archive, path, day=OLD)
        imported(site, archive, "south", clinic=SOUTH, day=OLD)
        imported(site, archive, "young", day=YOUNG)
        imported(site, archive, "today", day=TODAY)
        said = prune(site, NORTH)
    assert "northside: 3 files (0.0 MB) deleted\n" in said
    assert left(site) == {f"southside/{OLD}/south", f"northside/{YOUNG}/young", f"northside/{TODAY}/today"}
    assert not (site.data / "processed" / NORTH / OLD).exists()
    assert site.audited() == [("prune", NORTH, True), ("pruned", NORTH, True)]


def test_what_is_not_verified_stays(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "well", day=OLD)
        put(site, "never stored", instance_bytes(seed="never"), day=OLD)
        other = instance_bytes(seed="other")
        imported(site, archive, "other", other, day=OLD)
        flip(in_archive(site, other))
        put(site, "no DICOM", b"x" * 300, day=OLD)
        put(site, "Thumbs.db", b"x", day=OLD)
        said = prune(site, exit_code=1)
        assert f"missing     northside/{OLD}/never stored: the archive does not have it" in said
        names = {"never stored", "other", "no DICOM", "Thumbs.db"}
        assert left(site) == {f"northside/{OLD}/{name}" for name in names}
        prune(site, "--skipped", exit_code=1)
        assert left(site) == {f"northside/{OLD}/{name}" for name in names - {"Thumbs.db"}}


def test_superseded_files_go_only_when_told_and_their_successor_never_before_them(sqlite_site: Site) -> None:
    """Without the last one the others would look as if the archive had lost them."""
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "a", instance_bytes(description="One"), day=OLD)
        imported(site, archive, "b", instance_bytes(description="Two"), day=OLD)
        imported(site, archive, "c", instance_bytes(description="Three"), day=OLD)
        before = left(site)
        said = prune(site)
        assert "0 files (0.0 MB) deleted; 3 superseded stay" in said
        assert left(site) == before
        assert "3 files (0.0 MB) would be deleted" in prune(site, "--superseded", "--dry-run")
        assert left(site) == before
        assert "3 files (0.0 MB) deleted" in prune(site, "--superseded")
    assert left(site) == set()


def test_a_superseded_file_stays_while_its_successor_is_not_in_the_archive(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "a", instance_bytes(description="One"), day=OLD)
        put(site, "b", instance_bytes(description="Two"), day=TODAY)
        assert "which is different" in prune(site, "--superseded")
        assert left(site) == {f"northside/{OLD}/a", f"northside/{TODAY}/b"}
        store(archive, tag_bytes(instance_bytes(description="Two")))
        prune(site, "--superseded")
    assert left(site) == {f"northside/{TODAY}/b"}


def test_the_successor_may_be_another_clinics(sqlite_site: Site) -> None:
    """The study has gone to it; as long as the old owner's file is there, the new one's stays, too."""
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "a", instance_bytes(description="One"), day=OLD)
        imported(site, archive, "b", instance_bytes(description="Two"), clinic=SOUTH, day=OLD)
        prune(site)
        assert left(site) == {f"northside/{OLD}/a", f"southside/{OLD}/b"}
        prune(site, "--superseded")
    assert left(site) == set()


def test_files_of_deleted_studies_stay_unless_told(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    claim = Claim(
        NORTH, Uid(sample_uid("gone", "study")), Uid(sample_uid("gone", "series", "CT")), "SAMPLE-1"
    )
    with site.catalog.write() as connection:
        ownership.reserve(connection, claim, NOW)
        connection.execute(studies.update().values(state="deleted"))
    put(site, "a", instance_bytes(seed="gone"), day=OLD)
    with site.archive():
        assert "1 of deleted studies stay" in prune(site)
        assert left(site) == {f"northside/{OLD}/a"}
        prune(site, "--deleted")
    assert left(site) == set()


@contextmanager
def pruner(site: Site, *also: Outcome) -> Iterator[Pruner]:
    settings: dict[str, Any] = {name.lower(): value for name, value in site.env.items()} | {"_env_file": None}
    with closing(Platform(AdminSettings(**settings))) as platform, closing(Versions()) as versions:
        order = Order(YOUNG, frozenset(also), TODAY)
        made = Pruner(site.data / "processed", Verifier(platform), versions, order)
        made.read()
        yield made


@pytest.mark.parametrize("how", ["replaced", "written to", "taken away"])
def test_a_file_that_changed_since_it_was_verified_is_not_deleted(sqlite_site: Site, how: str) -> None:
    site = sqlite_site
    with site.archive() as archive:
        place = imported(site, archive, "a/1.dcm", day=OLD)
        with pruner(site) as pruning:
            said = list(pruning.clinic(NORTH, lambda _done: change(place, how)))
    if how == "taken away":
        assert not said
        assert not place.exists()
    else:
        assert [verdict.detail for verdict in said] == ["it was replaced meanwhile"]
        assert place.read_bytes() == b"another"
    assert pruning.files == {}


def change(place: Path, how: str) -> None:
    if how == "written to":
        place.write_bytes(b"another")
        return
    place.unlink()
    if how == "replaced":
        place.write_bytes(b"another")


def test_links_are_never_followed(sqlite_site: Site, tmp_path: Path) -> None:
    site = sqlite_site
    with site.archive() as archive:
        inside = imported(site, archive, "a/1.dcm", day=OLD)
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "1.dcm").write_bytes(inside.read_bytes())
        (inside.parents[1] / "link").symlink_to(outside)
        (inside.parents[2] / "2020-01-01").symlink_to(outside)
        with pruner(site) as pruning:
            inside.parent.rename(tmp_path / "moved")
            inside.parent.symlink_to(outside)
            assert [verdict.outcome for verdict in pruning.clinic(NORTH)] == [Outcome.DIFFERENT]
    assert (outside / "1.dcm").exists()
    assert (tmp_path / "moved" / "1.dcm").exists()


def test_what_cannot_be_recorded_is_not_deleted(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "a", day=OLD)
        with site.catalog.write() as connection:
            connection.execute(text("ALTER TABLE audit RENAME TO hidden"))
        prune(site, exit_code=2)
    assert left(site) == {f"northside/{OLD}/a"}


def test_it_asks_first_and_can_only_say(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        imported(site, archive, "a", day=OLD)
        result = site.run("prune", "--older-than", "30d", typed="n\n")
        assert result.exit_code == 1
        assert "Verify and delete 1 file from before" in result.output
        assert "1 file (0.0 MB) would be deleted" in prune(site, "--dry-run")
    assert left(site) == {f"northside/{OLD}/a"}
    assert site.audited() == []


def test_without_the_archive_nothing_is_deleted(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    put(sqlite_site, "a", instance_bytes(), day=OLD)
    prune(sqlite_site, exit_code=2)
    assert left(sqlite_site) == {f"northside/{OLD}/a"}


@pytest.mark.parametrize(("age", "first"), [(30, "2026-01-31"), (1, "2026-03-01"), (0, "2026-03-03")])
def test_the_whole_day_must_be_over_for_so_long(age: int, first: str) -> None:
    assert first_kept_day(date(2026, 3, 2), age) == first


@pytest.mark.parametrize("typed", ["", "d", "-1d", "30m", "999999", "²d"])
def test_an_age_is_a_number_of_days(sqlite_site: Site, typed: str) -> None:
    assert sqlite_site.run("prune", "--older-than", typed).exit_code == 2
