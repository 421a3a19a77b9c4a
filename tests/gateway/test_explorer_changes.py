"""What is deleted or changed by /orthanc is gone for physicians at once, from list and cache alike."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select

from demo.orthanc import CONFIGURATION
from gateway.explorer.changes import BULK_DELETE, HARMLESS, LEVELS
from pacs.catalog.schema import studies
from support.explorer import Door, explorer_settings, recording_archive
from support.gateway import CLIP, MINE, NORTH, UNOWNED, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog import Catalog
    from support.gateway import SampleArchive, World
    from support.orthanc import Orthanc

STUDY, OTHER = "11-a", "22-b"
"""What the archive calls studies, in the tests without a real one: `MINE` and `CLIP`."""
UIDS: dict[str, str] = {STUDY: MINE.study, OTHER: CLIP.study}


def row(world: World, sample: Sample = MINE) -> Any:
    with world.catalog.read() as connection:
        return connection.execute(select(studies).where(studies.c.study_uid == sample.study)).one()


def is_touched(world: World, before: Any, sample: Sample = MINE) -> bool:
    after = row(world, sample)
    return bool(after.revision > before.revision and after.marked > after.refreshed and not after.settled)


class Archive:
    """What an archive says that has some studies; a resource of any other name belongs to `STUDY`."""

    def __init__(self) -> None:
        self.has = [STUDY]
        self.has_afterwards = [STUDY]
        self.status: int | None = 200
        self.tells = 200
        self.is_changed = False
        self.at_the_change: Callable[[], None] = lambda: None

    def __call__(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        if path == "/tools/bulk-content":
            has = self.has_afterwards if self.is_changed else self.has
            return self.tells, {}, json.dumps([self._study(each) for each in has]).encode()
        self.is_changed = True
        self.at_the_change()
        return None if self.status is None else (self.status, {}, b"{}")

    @staticmethod
    def _study(name: str) -> dict[str, Any]:
        return {"ID": name, "Type": "Study", "MainDicomTags": {"StudyInstanceUID": UIDS[name]}}


@pytest.fixture
def make_door(
    catalog: Catalog, embedded_archive: SampleArchive, make_world: Callable[..., World]
) -> Callable[[str], Door]:
    return lambda url: Door(make_world(catalog, embedded_archive, **explorer_settings(url)))


@pytest.fixture
def real_door(
    catalog: Catalog, orthanc_archive: SampleArchive, orthanc: Orthanc, make_world: Callable[..., World]
) -> Door:
    """One archive for the physicians and /orthanc."""
    return Door(make_world(catalog, orthanc_archive, **explorer_settings(orthanc.url)))


def found(door: Door, uid: str) -> str:
    (entry,) = door.ask("/tools/lookup", method="POST", data=uid).get_json(force=True)
    return str(entry["ID"])


def test_an_image_that_is_deleted_is_asked_of_the_archive_anew(real_door: Door) -> None:
    sample = Sample("one image is deleted", NORTH)
    world = real_door.world
    world.file(sample)
    before = row(world, sample)
    assert world.get(f"{sample.path()}/frames/1").status_code == 200
    assert (
        real_door.ask(f"/instances/{found(real_door, sample.instance())}", method="DELETE").status_code == 200
    )
    assert is_touched(world, before, sample)
    assert row(world, sample).state == "confirmed"
    assert world.get(f"{sample.path()}/frames/1").status_code == 404
    assert world.get(f"{sample.path(number=2)}/frames/1").status_code == 200


@pytest.mark.parametrize("how", ["as a study", "image by image"])
def test_a_study_that_is_deleted_whole_is_listed_no_more(real_door: Door, how: str) -> None:
    sample = Sample(f"deleted {how}", NORTH)
    world = real_door.world
    world.file(sample)
    assert sample.study in world.uids()
    if how == "image by image":
        images = [found(real_door, sample.instance(number=number)) for number in (1, 2)]
        answer = real_door.ask("/tools/bulk-delete", method="POST", json={"Resources": images})
    else:
        answer = real_door.ask(f"/studies/{found(real_door, sample.study)}", method="DELETE")
    assert answer.status_code == 200
    assert sample.study not in world.uids()
    assert world.get(f"{sample.path()}/frames/1").status_code == 404
    after = row(world, sample)
    # Its owner keeps it, and the importer asks the archive once more.
    assert (after.state, after.clinic_id, after.marked > after.refreshed) == ("missing", NORTH, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/patients/x"),
        ("DELETE", f"/studies/{STUDY}"),
        ("DELETE", "/series/x/"),
        ("DELETE", "/instances/x"),
        ("DELETE", "/instances/x/attachments/dicom-as-json"),
        ("PUT", "/instances/x/attachments/dicom"),
        ("PUT", "/series/x/metadata/1024"),
        ("POST", "/studies/x/reconstruct"),
        ("POST", "/studies/x/modify"),
    ],
)
def test_whatever_may_change_an_image_touches_its_study_before_and_after(
    make_door: Callable[[str], Door], method: str, path: str
) -> None:
    archive = Archive()
    with recording_archive(archive) as (url, seen):
        door = make_door(url)
        rows = [row(door.world)]
        others = row(door.world, CLIP)
        archive.at_the_change = lambda: rows.append(row(door.world))
        assert door.ask(path, method=method, data=b"x").status_code == 200
    assert [each[:2] for each in seen][1] == (method, path)
    assert json.loads(seen[0][3])["Resources"] == [path.split("/")[2]]
    rows.append(row(door.world))
    # What was asked for meanwhile was kept under the revision in the middle.
    assert rows[0].revision < rows[1].revision < rows[2].revision
    assert rows[0].marked < rows[1].marked < rows[2].marked
    assert rows[2].marked > rows[2].refreshed
    assert not rows[2].settled
    assert row(door.world, CLIP) == others


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/studies/x/labels/seen"),
        ("DELETE", "/studies/x/labels/seen"),
        ("PUT", "/patients/x/protected"),
        ("POST", "/studies/x/archive"),
        ("POST", "/studies/x/media"),
        ("POST", "/tools/find"),
        ("POST", "/jobs/x/cancel"),
    ],
)
def test_what_leaves_the_images_as_they_are_touches_nothing(
    make_door: Callable[[str], Door], method: str, path: str
) -> None:
    with recording_archive(Archive()) as (url, seen):
        door = make_door(url)
        before = row(door.world)
        assert door.ask(path, method=method, data=b"x").status_code == 200
    assert [each[:2] for each in seen] == [(method, path)]
    assert row(door.world) == before


def test_what_the_archives_filter_lets_through_is_known_here() -> None:
    """Else something that changes images would pass, and the cache would go on showing them."""
    filter_ = CONFIGURATION.with_name("filter.lua").read_text()

    def named(table: str) -> set[str]:
        block = re.search(rf"local {table} = {{(.*?)}}", filter_, re.DOTALL)
        assert block
        return set(re.findall(r"([a-z][a-z-]*)'?\]? = true", block[1]))

    assert named("LEVELS") == LEVELS
    assert named("ACTIONS") | named("ATTRIBUTES") == {*HARMLESS, "attachments", "metadata", "reconstruct"}
    assert named("TOOLS") == {
        BULK_DELETE,
        *("bulk-content", "count-resources", "create-archive", "create-media", "create-media-extended"),
        *("find", "lookup", "reconstruct"),
    }


def test_of_a_patients_studies_those_that_are_gone_are_hidden(make_door: Callable[[str], Door]) -> None:
    archive = Archive()
    archive.has, archive.has_afterwards = [STUDY, OTHER], [OTHER]
    with recording_archive(archive) as (url, _):
        door = make_door(url)
        before = [row(door.world, each) for each in (MINE, CLIP)]
        assert door.ask("/patients/x", method="DELETE").status_code == 200
    assert row(door.world).state == "missing"
    assert row(door.world, CLIP).state == "confirmed"
    assert is_touched(door.world, before[0])
    assert is_touched(door.world, before[1], CLIP)


@pytest.mark.parametrize("status", [None, 404, 500])
def test_what_the_archive_failed_at_may_have_happened(
    make_door: Callable[[str], Door], status: int | None
) -> None:
    archive = Archive()
    archive.status = status
    with recording_archive(archive) as (url, _):
        door = make_door(url)
        revisions = []
        archive.at_the_change = lambda: revisions.append(row(door.world).revision)
        assert door.ask("/instances/x", method="DELETE").status_code == (status or 503)
    assert row(door.world).revision > revisions[0]


def test_an_archive_that_does_not_tell_whose_it_is_deletes_nothing(
    make_door: Callable[[str], Door],
) -> None:
    archive = Archive()
    archive.tells = 403
    with recording_archive(archive) as (url, seen):
        assert make_door(url).ask("/instances/x", method="DELETE").status_code == 502
    assert [each[1] for each in seen] == ["/tools/bulk-content"]


def test_without_the_catalog_nothing_is_deleted(make_door: Callable[[str], Door]) -> None:
    with recording_archive(Archive()) as (url, seen):
        door = make_door(url)

        def full(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("UPDATE studies"):
                raise sqlite3.OperationalError("database or disk is full")

        engine = door.world.catalog._engine
        event.listen(engine, "before_cursor_execute", full)
        try:
            status = door.ask("/instances/x", method="DELETE").status_code
        finally:
            event.remove(engine, "before_cursor_execute", full)
    # On PostgreSQL it is no error that its driver knows.
    assert status == 503 or not door.world.catalog.is_sqlite
    assert [each[1] for each in seen] == ["/tools/bulk-content"]


@pytest.mark.parametrize("uid", [UNOWNED.study, "no UID"])
def test_a_study_that_nobody_owns_is_deleted(
    make_door: Callable[[str], Door], uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(UIDS, STUDY, uid)
    with recording_archive(Archive()) as (url, seen):
        door = make_door(url)
        assert door.ask("/studies/x", method="DELETE").status_code == 200
    assert ("DELETE", "/studies/x") in [each[:2] for each in seen]


def test_a_tombstone_is_left_to_who_removes_its_study(make_door: Callable[[str], Door]) -> None:
    with recording_archive(Archive()) as (url, _):
        door = make_door(url)
        door.world.set_study(MINE, state="deleted")
        before = row(door.world)
        assert door.ask("/studies/x", method="DELETE").status_code == 200
    assert row(door.world) == before


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b'{"Resources": "x"}', b'{"Resources": [1]}', b"[" * 100_000,
     b'{"Resources": ["x"],}', b'{"Resources": [' + b'"x", ' * 30_000 + b'"x"]}'],
)  # fmt: skip
def test_a_list_that_is_not_understood_deletes_nothing(make_door: Callable[[str], Door], body: bytes) -> None:
    with recording_archive(Archive()) as (url, seen):
        answer = make_door(url).ask("/tools/bulk-delete", method="POST", data=body)
    assert answer.status_code == 400
    assert seen == []


def test_the_archive_is_given_the_list_as_it_was_understood(make_door: Callable[[str], Door]) -> None:
    body = b'{"Resources": ["y"], "Resources": ["x", "\\u00e9"], "More": 1}'
    with recording_archive(Archive()) as (url, seen):
        door = make_door(url)
        before = row(door.world)
        assert door.ask("/tools/bulk-delete", method="POST", data=body).status_code == 200
    assert json.loads(seen[0][3])["Resources"] == ["x", "é"]
    assert (seen[1][1], json.loads(seen[1][3])) == ("/tools/bulk-delete", {"Resources": ["x", "é"]})
    assert is_touched(door.world, before)
