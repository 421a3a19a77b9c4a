"""A study that the archive has and the catalog does not know is given to nobody whose it is not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from importer.daemon import local_now
from importer.files.failed import put_back
from pacs.archive import Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics, ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import audit, studies
from pacs.ids import Uid
from pacs.written_owner import give_back
from support.corpus import instance_bytes, sample_uid
from support.dicom_files import tag_bytes
from support.importing import NORTH, SOUTH, World, metric, wait_until
from support.stow_server import Answers, Hangs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.archive import ArchivedStudy
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId

STUDY, SERIES = Uid(sample_uid("orphan", "study")), Uid(sample_uid("orphan", "series", "CT"))
OTHER_SERIES = Uid("2.25.4711")
OWNERLESS = "study-without-owner"


@pytest.fixture
def world(tmp_path: Path, catalog: Catalog, database_url: str) -> Iterator[World]:
    """Two clinics and a good archive, once on each database."""
    made = World(tmp_path / "data", catalog, database_url)
    made.add_clinic(NORTH)
    made.add_clinic(SOUTH)
    made.server.start()
    yield made
    made.server.stop()


def image(number: int = 1, **more: Any) -> bytes:
    return instance_bytes(**({"seed": "orphan", "instance_number": number, "size": 4} | more))


def lies_in_the_archive(world: World, *contents: bytes) -> set[str]:
    """These files were stored around the importer, or before the catalog was lost."""
    archive = DicomWebArchive(world.settings())
    assert len(archive.store([Part([each], len(each)) for each in contents]).stored) == len(contents)
    archive.close()
    world.server.requests.clear()
    return set(world.server.stored)


def asked_about(world: World, study: str = STUDY) -> int:
    """How often somebody asked the archive whether it has the study."""
    return sum(path.startswith("/dicom-web/studies?") and study in path for path in world.server.searches)


def test_what_is_all_its_own_the_clinic_gets_back(world: World) -> None:
    lies_in_the_archive(
        world, tag_bytes(image(1), NORTH), tag_bytes(image(2, series_uid=OTHER_SERIES), NORTH)
    )
    content = world.drop("3.dcm", image(3))
    with world.running_fast():
        wait_until(lambda: world.done() == {"3.dcm": content})
        wait_until(lambda: (world.study(STUDY) or {})["instance_count"] == 3)
    row = world.study(STUDY) or {}
    assert (row["clinic_id"], row["state"]) == (NORTH, "confirmed")
    assert world.owned_series() == {SERIES: NORTH, OTHER_SERIES: NORTH}
    assert ("restore-owner", NORTH, STUDY) in [
        (each["action"], each["clinic_id"], each["study_uid"]) for each in world.rows(audit)
    ]


FOREIGN = {
    "another clinic's": lambda: [tag_bytes(image(), SOUTH)],
    "two clinics'": lambda: [
        tag_bytes(image(1), NORTH),
        tag_bytes(image(2, series_uid=OTHER_SERIES), SOUTH),
    ],
    "nobody's": lambda: [image()],
    "nobody's in part": lambda: [tag_bytes(image(1), NORTH), image(2, series_uid=OTHER_SERIES)],
    "nobody's who says that it is": lambda: [image(institution=NORTH)],
}


@pytest.mark.parametrize(
    "whose",
    [each if n == 0 else pytest.param(each, marks=pytest.mark.long) for n, each in enumerate(FOREIGN)],
)
def test_what_is_not_all_its_own_the_clinic_does_not_get(world: World, whose: str) -> None:
    there = lies_in_the_archive(world, *FOREIGN[whose]())
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", image(n)) for n in range(10, 55)}
    with world.running() as importer:
        wait_until(lambda: set(world.reasons().values()) == {OWNERLESS} and len(world.reasons()) == 45)
        wait_until(lambda: metric(importer, "importer_failures_total", clinic=NORTH, reason=OWNERLESS) == 45)
        # What has nothing to do with it is imported all the same.
        world.drop("other.dcm")
        wait_until(world.done)
        assert metric(importer, "importer_archive_up") == 1
    failed = world.files(world.failed)
    assert {path: failed[path] for path in world.reasons()} == dropped
    assert world.study(STUDY) is None
    assert world.owned_series().keys() & {SERIES, OTHER_SERIES} == set()
    assert len(world.server.requests) == 1
    assert len(world.server.stored.keys() - there) == 1
    assert asked_about(world) <= 3, "not for each file"


def test_a_refused_file_is_imported_when_nothing_is_in_the_way_any_more(world: World) -> None:
    lies_in_the_archive(world, image())
    content = world.drop("a.dcm", image(2))
    with world.running_fast():
        wait_until(lambda: world.reasons() == {"a.dcm": OWNERLESS})
        world.server.stored.clear()
        put_back(world.failed, world.inbox, world.failures()["a.dcm"])
        wait_until(lambda: world.done() == {"a.dcm": content})
    assert (world.study(STUDY) or {})["clinic_id"] == NORTH


def test_a_refused_file_is_refused_for_good_when_its_owner_is_back(world: World) -> None:
    lies_in_the_archive(world, tag_bytes(image(), SOUTH))
    world.drop("a.dcm", image(2))
    archive = DicomWebArchive(world.settings())
    with world.running_fast():
        wait_until(lambda: world.reasons() == {"a.dcm": OWNERLESS})
        found = archive.study(STUDY)
        assert found
        with world.catalog.write() as connection:
            give_back(connection, found, SOUTH, local_now())
        wait_until(lambda: (world.study(STUDY) or {})["state"] == "confirmed")
        put_back(world.failed, world.inbox, world.failures()["a.dcm"])
        wait_until(lambda: world.reasons() == {"a.dcm": "study-owned-by-another-clinic"})
    archive.close()


def test_its_own_study_under_another_patient_id_is_not_split(world: World) -> None:
    lies_in_the_archive(world, tag_bytes(image(), NORTH))
    world.drop("a.dcm", image(2, patient="kazakh"))
    with world.running_fast():
        wait_until(lambda: world.reasons() == {"a.dcm": "patient-id-differs"})
        wait_until(lambda: (world.study(STUDY) or {})["state"] == "confirmed")
    assert world.server.requests == []


@pytest.mark.long
def test_its_own_study_with_a_series_that_is_another_clinics_by_now_is_not_given_back(world: World) -> None:
    lies_in_the_archive(
        world, tag_bytes(image(1), NORTH), tag_bytes(image(2, series_uid=OTHER_SERIES), NORTH)
    )
    with world.catalog.write() as connection:
        ownership.reserve(connection, Claim(SOUTH, Uid("2.25.1"), OTHER_SERIES, "P"), local_now())
        ownership.confirm(connection, Uid("2.25.1"), [OTHER_SERIES], local_now())
    world.drop("a.dcm", image(3))
    with world.running_fast():
        wait_until(lambda: world.reasons() == {"a.dcm": OWNERLESS})
    assert world.study(STUDY) is None
    assert world.owned_series() == {OTHER_SERIES: SOUTH}


def test_the_archive_is_asked_once_about_a_new_study_and_never_about_a_known_one(world: World) -> None:
    for number in range(45):
        world.drop(f"{number}.dcm", image(number))
    asked: list[int] = []

    def noted(_sent: object) -> None:
        # After its first files are stored the bookkeeper asks, too: for its row.
        asked.append(asked_about(world))

    world.server.rule = noted
    with world.running():
        wait_until(lambda: len(world.done()) == 45)
        wait_until(lambda: (world.study(STUDY) or {})["instance_count"] == 45)
    assert asked[0] == 1
    world.server.searches.clear()
    asked.clear()
    world.drop("late.dcm", image(99))
    with world.running():
        wait_until(lambda: len(world.done()) == 46)
    assert asked == [0]


@pytest.mark.long
def test_a_study_that_was_reserved_before_a_crash_is_not_asked_about(world: World) -> None:
    world.know(image(), NORTH)
    lies_in_the_archive(world, tag_bytes(image(), NORTH))
    asked: list[int] = []
    world.server.rule = lambda _sent: asked.append(asked_about(world))
    with world.catalog.write() as connection:
        # Clean: no sweep asks for its row.
        connection.execute(studies.update().values(refreshed=studies.c.marked))
    world.drop("a.dcm", image(2))
    with world.running_fast():
        wait_until(world.done)
    assert asked == [0]


@pytest.mark.long
def test_a_deleted_study_is_its_owners_whatever_the_archive_says(world: World) -> None:
    world.know(image(), SOUTH)
    with world.catalog.write() as connection:
        connection.execute(studies.update().values(refreshed=studies.c.marked, state="deleted"))
    world.drop("a.dcm", image())
    with world.running_fast():
        wait_until(lambda: world.reasons() == {"a.dcm": "study-owned-by-another-clinic"})
    assert asked_about(world) == 0


AWAY: list[Answers] = [Answers(status) for status in (401, 403, 404, 500, 502, 503)]
AWAY += [
    Answers(302, location="/elsewhere"),
    Answers(200, b"<html>welcome to this network</html>"),
    Answers(200, b"[{ cut", "application/dicom+json"),
    Answers(200, b"{}", "application/dicom+json"),
    Answers(
        200, b'[{"0020000D": {"vr": "UI", "Value": ["1.2.840.99.1"]}}]', "application/dicom+json"
    ),  # another study's: it takes no filter
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("answer", AWAY, ids=lambda each: f"{each.status}-{each.body[:4].decode()}")
def test_files_of_a_new_study_wait_for_an_answer_that_says_something(
    sqlite_catalog: Catalog, tmp_path: Path, answer: Answers
) -> None:
    world = World(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path}/only-catalog.db")
    world.add_clinic(NORTH)
    world.server.start()
    lies_in_the_archive(world, tag_bytes(image(), SOUTH))
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", image(n)) for n in range(2, 32)}
    world.server.search_rule = lambda _path: answer
    with world.running_fast() as importer:
        wait_until(lambda: asked_about(world) >= 3)
        assert importer.health.archive.up is False
        assert (world.failures(), world.waiting(), world.study(STUDY)) == ({}, dropped, None)
        world.server.search_rule = lambda _path: None
        began = time.monotonic()
        wait_until(lambda: len(world.failures()) == 30)
        # Ten minutes of the importer's clock: not the hour that a single file may have to wait.
        assert time.monotonic() - began < 30
    assert world.server.requests == []
    world.server.stop()


@pytest.mark.long
@pytest.mark.parametrize("broken", ["series", "instances", "metadata"])
def test_files_wait_too_while_the_archive_cannot_say_whose_the_study_is(world: World, broken: str) -> None:
    lies_in_the_archive(world, tag_bytes(image(), NORTH))
    content = world.drop("a.dcm", image(2))
    world.server.search_rule = lambda path: (
        Answers(500) if f"/{broken}" in path.replace("/series/", "/") else None
    )
    with world.running_fast():
        wait_until(lambda: sum(f"/{broken}" in path for path in world.server.searches) >= 2)
        assert (world.failures(), world.study(STUDY)) == ({}, None)
        world.server.search_rule = lambda _path: None
        wait_until(lambda: world.done() == {"a.dcm": content})


@pytest.mark.long
def test_a_study_that_the_archive_stumbles_over_holds_up_no_other(world: World) -> None:
    lies_in_the_archive(world, tag_bytes(image(), NORTH))
    for number in range(2, 32):
        world.drop(f"broken/{number}.dcm", image(number))
    world.server.search_rule = lambda path: Answers(500) if STUDY in path else None
    with world.running_fast() as importer:
        wait_until(lambda: asked_about(world) >= 2)
        for number in range(3):
            world.drop(f"good/{number}.dcm", seed=("good", number))
        wait_until(lambda: len(world.done()) == 3)
        wait_until(lambda: (metric(importer, "importer_stuck_files", clinic=NORTH) or 0) >= 1)
        assert metric(importer, "importer_archive_up") == 1
        assert len(world.waiting()) == 30
        assert asked_about(world) < 30, "one of its files asks for all of them"
    assert world.failures() == {}


@pytest.mark.long
def test_a_search_that_hangs_holds_up_no_study_that_is_known(world: World) -> None:
    released = threading.Event()
    world.drop("known/1.dcm", image(1), clinic=SOUTH)
    with world.running():
        wait_until(lambda: (world.study(STUDY) or {}).get("state") == "confirmed")
    world.server.search_rule = lambda path: Hangs(released) if sample_uid("new", "study") in path else None
    with world.running():
        world.drop("new.dcm", seed="new")
        wait_until(lambda: asked_about(world, sample_uid("new", "study")) == 1)
        world.drop("known/2.dcm", image(2), clinic=SOUTH)
        wait_until(lambda: len(world.done(SOUTH)) == 2)
        assert world.done() == {}
        released.set()
        world.server.search_rule = lambda _path: None
        wait_until(lambda: len(world.done()) == 1)


class Meanwhile(DicomWebArchive):
    """The real client; somebody else reserves the study while it asks whether the archive has it."""

    def __init__(self, world: World, clinic: ClinicId) -> None:
        super().__init__(world.settings())
        self._world, self._clinic = world, clinic

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        found = super().study(study_uid)
        if self._world.study(study_uid) is None:
            self._world.know(image(), self._clinic)
            with self._world.catalog.write() as connection:
                ownership.confirm(connection, study_uid, [SERIES], local_now())
        return found


@pytest.mark.parametrize("there", [False, True])
def test_who_reserves_while_the_archive_is_asked_is_the_owner(world: World, there: bool) -> None:  # noqa: FBT001
    if there:
        lies_in_the_archive(world, tag_bytes(image(), NORTH))
    world.drop("a.dcm", image(2))
    archive = Meanwhile(world, SOUTH)
    with world.running_fast(archive=archive):
        wait_until(lambda: world.reasons() == {"a.dcm": "study-owned-by-another-clinic"})
    archive.close()
    assert world.server.requests == []
    assert (world.study(STUDY) or {})["clinic_id"] == SOUTH


@pytest.mark.long
def test_two_clinics_bring_a_new_study_at_once_and_one_has_it(world: World) -> None:
    held = threading.Event()

    def hold(path: str) -> None:
        assert STUDY not in path or held.wait(10)

    world.server.search_rule = hold
    for number in range(30):
        world.drop(f"{number}.dcm", image(number), clinic=NORTH)
        world.drop(f"{number}.dcm", image(100 + number), clinic=SOUTH)
    with world.running_fast():
        wait_until(lambda: asked_about(world) >= 2)
        held.set()
        wait_until(lambda: sorted(map(len, (world.done(NORTH), world.done(SOUTH)))) == [0, 30])
        loser = NORTH if world.done(SOUTH) else SOUTH
        wait_until(lambda: set(world.reasons(loser).values()) == {"study-owned-by-another-clinic"})
        wait_until(lambda: len(world.reasons(loser)) == 30)
    assert {str(each.header.InstitutionName) for each in world.server.stored.values()} == {
        SOUTH if loser == NORTH else NORTH
    }


@pytest.mark.long
def test_a_clinic_that_is_deactivated_meanwhile_leaves_nothing_behind(world: World) -> None:
    released = threading.Event()
    world.server.search_rule = lambda path: Hangs(released) if STUDY in path else None
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", image(n)) for n in range(30)}
    with world.running() as importer:
        wait_until(lambda: asked_about(world) == 1)
        wait_until(
            lambda: (
                (metric(importer, "importer_blocked_files", clinic=NORTH, reason="asking-archive") or 0) > 0
            )
        )
        with world.catalog.write() as connection:
            clinics.deactivate(connection, NORTH)
        wait_until(lambda: importer.in_hand <= 1)
        released.set()
        wait_until(lambda: importer.in_hand == 0)
        assert metric(importer, "importer_blocked_files", clinic=NORTH, reason="asking-archive") == 0
    assert world.waiting() == dropped


@pytest.mark.long
def test_the_file_that_asks_is_taken_away_and_another_one_asks(world: World) -> None:
    lies_in_the_archive(world, tag_bytes(image(), NORTH))
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", image(n)) for n in range(2, 32)}
    world.server.search_rule = lambda _path: Answers(503)
    with world.running_fast() as importer:
        wait_until(lambda: asked_about(world) >= 1)
        wait_until(lambda: metric(importer, "importer_blocked_files", clinic=NORTH, reason="asking-archive"))
        (world.inbox / NORTH / "2.dcm").unlink()
        del dropped["2.dcm"]
        world.server.search_rule = lambda _path: None
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: importer.in_hand == 0)
