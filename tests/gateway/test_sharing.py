"""Sharing, transfers and deletion count for the gateway's next request: nothing is cached there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from admin import deletion, sharing, transfer
from admin.platform import Platform
from admin.settings import AdminSettings
from demo.archive import create_archive
from pacs.archive import ArchiveUnavailableError
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics
from pacs.catalog.schema import studies
from pacs.settings import ArchiveSettings
from support.filed import Failing
from support.gateway import CLIP, MINE, SOUTH, STORED, THEIRS, SampleArchive, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.gateway import Sample, World

FORMS = (
    "/studies/{study}",
    "/studies/{study}/metadata",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    "/studies/{study}/rendered",
    "/studies/{study}/thumbnail",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/series/{series}/instances",
    "/studies/{study}/series/{series}/instances/{instance}",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1",
    "/series?StudyInstanceUID={study}",
    "/instances?StudyInstanceUID={study}",
)


def path(form: str, study: Sample, series: Sample | None = None, instance: Sample | None = None) -> str:
    of = series or study
    return form.format(study=study.study, series=of.series(), instance=(instance or of).instance())


def statuses(world: World, token: str, study: Sample, series: Sample | None = None) -> set[int]:
    forms = [form for form in FORMS if series is None or "{series}" in form]
    return {world.get(path(form, study, series), token).status_code for form in forms}


class Commands(Platform):
    """The commands at the world's clock, with its catalog and archive."""

    def __init__(self, world: World) -> None:
        archive = world.archive.settings
        super().__init__(AdminSettings(archive_url=archive.archive_url, archive_stable_age_seconds=0))
        self.__dict__["catalog"] = world.catalog
        self._world = world

    def now(self) -> datetime:  # type: ignore[override]
        return self._world.clock.now()


@pytest.fixture
def own_world(
    catalog: Catalog, tmp_path: Path, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """One whose archive may be changed; on both databases."""
    monkeypatch.chdir(tmp_path)
    with running(create_archive(tmp_path / "dicom")) as url:
        settings = ArchiveSettings(archive_url=f"{url}/dicom-web")
        yield make_world(catalog, SampleArchive("own", settings).fill())


def test_a_share_counts_at_once_for_that_study_alone_and_ends_with_its_day(any_catalog_world: World) -> None:
    world = any_catalog_world
    commands = Commands(world)
    assert statuses(world, world.sam, MINE) == {404}
    sharing.share(commands, MINE.study, SOUTH, sharing.today(commands))
    assert statuses(world, world.sam, MINE) == {200}
    assert set(world.uids("", world.sam)) == {MINE.study, THEIRS.study}
    assert world.uids(f"StudyInstanceUID={MINE.study}", world.sam) == [MINE.study]
    # The same patient's other studies, and the shared study's series under another study's name.
    for sample in STORED:
        if sample not in {MINE, THEIRS}:
            assert statuses(world, world.sam, sample) == {404}
            assert statuses(world, world.sam, sample, MINE) == {404}
            assert statuses(world, world.sam, MINE, sample) == {404}
            assert world.uids(f"StudyInstanceUID={sample.study}", world.sam) == []
    assert statuses(world, world.issuer.token(), THEIRS) == {404}
    world.clock.turn(24 * 3600)
    assert statuses(world, world.sam, MINE) == {404}
    assert world.uids("", world.sam) == [THEIRS.study]
    assert statuses(world, world.issuer.token(), MINE) == {200}
    sharing.share(commands, MINE.study, SOUTH, sharing.today(commands))
    assert statuses(world, world.sam, MINE) == {200}
    sharing.unshare(commands, MINE.study, SOUTH)
    assert statuses(world, world.sam, MINE) == {404}
    assert world.uids("", world.sam) == [THEIRS.study]


@pytest.mark.config
def test_a_share_ends_when_the_day_does_where_the_platform_is(
    any_catalog_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = any_catalog_world
    monkeypatch.setenv("TZ", "Asia/Almaty")
    import time  # noqa: PLC0415 - its zone is of this test

    time.tzset()
    try:
        commands = Commands(world)
        midnight = 24 * 3600 - (world.clock.now().astimezone().hour * 3600)
        sharing.share(commands, CLIP.study, SOUTH, sharing.today(commands))
        minutes = world.clock.now().astimezone().minute * 60 + world.clock.now().astimezone().second
        world.clock.turn(midnight - minutes - 1)
        assert statuses(world, world.sam, CLIP) == {200}
        world.clock.turn(2)
        assert statuses(world, world.sam, CLIP) == {404}
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.config
def test_a_deactivated_clinic_has_no_use_of_a_share(world: World) -> None:
    commands = Commands(world)
    sharing.share(commands, MINE.study, SOUTH, sharing.today(commands))
    with world.catalog.write() as connection:
        clinics.deactivate(connection, SOUTH)
    assert statuses(world, world.sam, MINE) == {403}
    both = world.issuer.token("sam", groups=[f"/clinics/{SOUTH}", "/clinics/eastside"])
    assert statuses(world, both, MINE) <= {403, 404}


@pytest.mark.config
def test_the_old_owner_loses_a_study_before_its_first_image_is_touched(own_world: World) -> None:
    world = own_world
    commands = Commands(world)
    with world.catalog.write() as connection:
        connection.execute(update(studies).values(refreshed=studies.c.marked))
    nora, sam = world.issuer.token(), world.sam
    archive = commands.__dict__["archive"] = Failing(
        DicomWebArchive(world.archive.settings), 1, frozenset({"study"})
    )
    with closing(archive.archive):
        begun = transfer.begin(commands, MINE.study, SOUTH)
        assert begun
        with pytest.raises(ArchiveUnavailableError):
            transfer.go_on(commands, begun.transfer)
        assert statuses(world, nora, MINE) == {404}
        assert MINE.study not in world.uids("", nora)
        assert statuses(world, sam, MINE) == {200}
        archive.at = 1000
        transfer.go_on(commands, begun.transfer)
    (found,) = world.get(f"/studies?StudyInstanceUID={MINE.study}", sam).get_json(force=True)
    assert found["00080080"]["Value"] == [SOUTH]
    metadata = world.get(f"{MINE.path()}/metadata", sam).get_json(force=True)
    assert [each["00080080"]["Value"] for each in metadata] == [[SOUTH]]
    assert statuses(world, nora, MINE) == {404}
    assert statuses(world, nora, CLIP) == {200}


@pytest.mark.config
def test_a_deleted_study_exists_for_nobody_before_the_archive_has_heard_of_it(own_world: World) -> None:
    world = own_world
    commands = Commands(world)
    with world.catalog.write() as connection:
        connection.execute(update(studies).values(refreshed=studies.c.marked))
    deletion.bury(commands, MINE.study)
    for token in (world.issuer.token(), world.sam, world.rita):
        assert statuses(world, token, MINE) == {404}
        assert MINE.study not in world.uids("", token)
    deletion.remove(commands, MINE.study)
    assert statuses(world, world.rita, MINE) == {404}
    assert statuses(world, world.issuer.token(), CLIP) == {200}
    commands.close()
