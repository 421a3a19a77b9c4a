"""The catalog beside the archive: what is dirty, what is dropped, and what must not be."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from importer.bookkeeper import ORPHAN_SECONDS
from importer.reading.claims import Claims
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, clinics, ownership, worklist
from pacs.catalog.ownership import Claim, Granted
from pacs.catalog.schema import studies
from pacs.ids import Uid
from pacs.refreshing import refresh
from support.corpus import sample_uid
from support.importing import NORTH, SOUTH, TurnedClock, metric, wait_for_looks, wait_until
from support.stow_server import Answers, Hangs

if TYPE_CHECKING:
    from importer.daemon import Importer
    from pacs.archive import ArchivedStudy
    from support.importing import World

STUDY, SERIES = Uid("1.2.3"), Uid("1.2.3.1")
CLAIM = Claim(NORTH, STUDY, SERIES, "P-1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def claims(catalog: Catalog) -> Claims:
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", NOW)
        clinics.add(connection, SOUTH, "Southside", NOW)
    return Claims(catalog, lambda: NOW)


def state(catalog: Catalog) -> tuple[Any, ...] | None:
    with catalog.read() as connection:
        row = connection.execute(studies.select()).first()
    return (row.state, row.marked, row.refreshed) if row else None


def test_a_study_is_reserved_once_however_many_files_it_has(claims: Claims, catalog: Catalog) -> None:
    for _ in range(5):
        assert claims.reserve([CLAIM, CLAIM], 0, {STUDY}) == [Granted.OWNED] * 2
    assert state(catalog) == ("provisional", 1, 0)


def test_the_next_activity_marks_the_study_again(claims: Claims, catalog: Catalog) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    claims.done(STUDY, stored=True, clock=0)
    assert claims.take_idle(0.1) == []
    assert [each.study_uid for each in claims.take_idle(1)] == [STUDY]
    assert not claims.is_active(STUDY)
    claims.reserve([CLAIM], 2, {STUDY})
    assert state(catalog) == ("provisional", 2, 0)


def test_a_study_with_a_file_under_way_is_not_done(claims: Claims) -> None:
    claims.reserve([CLAIM, CLAIM], 0, {STUDY})
    claims.done(STUDY, stored=True, clock=0)
    assert claims.take_idle(100) == []
    assert claims.is_active(STUDY)


def test_a_reservation_in_use_is_not_dropped(claims: Claims, catalog: Catalog) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    claims.drop(STUDY, NORTH, None)
    assert state(catalog)
    claims.done(STUDY, stored=False, clock=0)
    claims.take_idle(1)
    claims.know(STUDY)
    claims.drop(STUDY, NORTH, None)
    assert state(catalog), "a file of it waits"
    claims.forget(STUDY)
    claims.drop(STUDY, NORTH, 1)
    assert state(catalog) is None


def test_a_reservation_used_since_the_archive_was_asked_is_not_dropped(
    claims: Claims, catalog: Catalog
) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    claims.done(STUDY, stored=False, clock=0)
    claims.take_idle(1)
    with catalog.read() as connection:
        before = worklist.standing(connection, STUDY)
    assert before
    claims.reserve([CLAIM], 2, {STUDY})
    claims.done(STUDY, stored=True, clock=2)
    claims.take_idle(3)
    claims.drop(STUDY, NORTH, before.marks)
    assert state(catalog) == ("provisional", 2, 0)


class Listing:
    """An archive that lists one instance of the study, and lets something happen while it is asked."""

    def __init__(self, meanwhile: Any = None, *, listed: bool = True) -> None:
        self._meanwhile, self._listed = meanwhile, listed

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        from pacs.archive import ArchivedStudy as Study  # noqa: PLC0415 - only a type above

        if self._meanwhile:
            self._meanwhile()
        series = {"0020000E": {"vr": "UI", "Value": [SERIES]}, "00201209": {"vr": "IS", "Value": [1]}}
        return Study(study_uid, {}, (series,)) if self._listed else None


def refreshed(catalog: Catalog, archive: Any, **more: Any) -> bool:
    return refresh(catalog, archive, STUDY, stable_age_seconds=0, now=lambda: NOW, **more).listed


def test_a_refresh_clears_the_mark_when_no_file_is_under_way(claims: Claims, catalog: Catalog) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    assert refreshed(catalog, Listing())
    assert state(catalog) == ("confirmed", 1, 0), "who does not know the files under way leaves it dirty"
    assert refreshed(catalog, Listing(), busy=lambda: False)
    assert state(catalog) == ("confirmed", 1, 1)


def test_a_file_reserved_while_the_archive_is_asked_keeps_the_study_dirty(
    claims: Claims, catalog: Catalog
) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    claims.done(STUDY, stored=True, clock=0)
    claims.take_idle(1)
    archive = Listing(lambda: claims.reserve([CLAIM], 2, {STUDY}))
    assert refreshed(catalog, archive, busy=lambda: claims.is_active(STUDY))
    assert state(catalog) == ("confirmed", 2, 1)


def test_a_file_under_way_before_the_archive_is_asked_keeps_the_study_dirty(
    claims: Claims, catalog: Catalog
) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    assert refreshed(catalog, Listing(), busy=lambda: claims.is_active(STUDY))
    assert state(catalog) == ("confirmed", 1, 0)


def test_a_study_that_is_not_listed_is_hidden_only_by_who_may(claims: Claims, catalog: Catalog) -> None:
    claims.reserve([CLAIM], 0, {STUDY})
    refreshed(catalog, Listing(), busy=lambda: False)
    claims.reserve([Claim(NORTH, STUDY, Uid("1.2.3.2"), "P-1")], 0, {STUDY})
    assert not refreshed(catalog, Listing(listed=False), busy=lambda: False, hide_missing=False)
    assert state(catalog) == ("confirmed", 2, 1)
    assert not refreshed(catalog, Listing(listed=False), busy=lambda: False)
    assert state(catalog) == ("missing", 2, 2)


def test_reservations_of_one_batch_are_one_transaction(claims: Claims, catalog: Catalog) -> None:
    other = Claim(SOUTH, STUDY, SERIES, "P-1")
    differs = Claim(NORTH, STUDY, SERIES, "P-2")
    assert claims.reserve([CLAIM, other, differs, CLAIM], 0, {STUDY}) == [
        Granted.OWNED,
        Granted.WAIT,
        Granted.WAIT,
        Granted.OWNED,
    ]


def reserve_as_if_crashed(world: World, seed: str, age: timedelta = timedelta()) -> Uid:
    """A reservation whose importer died before anything was stored; its `age` is by the wall clock."""
    study = Uid(sample_uid(seed, "study"))
    with world.catalog.write() as connection:
        claim = Claim(NORTH, study, Uid(sample_uid(seed, "series", "CT")), "P-1")
        ownership.reserve(connection, claim, datetime.now(UTC) - age)
    return study


def let_pass(seconds: float, importer: Importer, *clocks: TurnedClock) -> None:
    for clock in clocks:
        clock.turn(seconds)
    wait_until(importer.supervise, what="each part has noticed")


@pytest.mark.long
def test_an_orphan_of_a_crash_is_given_up_after_a_while(world: World) -> None:
    old = reserve_as_if_crashed(world, "old")
    clock = TurnedClock()
    with world.running(clock=clock) as importer:
        wait_for_looks(importer)
        let_pass(ORPHAN_SECONDS, importer, clock)
        new = reserve_as_if_crashed(world, "new")
        wait_until(lambda: world.study(old) is None)
        wait_for_looks(importer)
    assert (world.study(new) or {})["state"] == "provisional"


@pytest.mark.long
def test_an_orphan_of_a_clinic_that_was_deactivated_keeps_nobody_waiting(world: World) -> None:
    old = reserve_as_if_crashed(world, "old")
    with world.catalog.write() as connection:
        clinics.deactivate(connection, NORTH)
    dropped = {"a.dcm": world.drop("a.dcm", clinic=SOUTH, seed="old")}
    clock = TurnedClock()
    with world.running(clock=clock) as importer:
        wait_for_looks(importer)
        let_pass(ORPHAN_SECONDS, importer, clock)
        new = reserve_as_if_crashed(world, "new")
        wait_until(lambda: world.done(SOUTH) == dropped)
        wait_for_looks(importer)
    assert (world.study(old) or {})["clinic_id"] == SOUTH
    assert (world.study(new) or {})["clinic_id"] == NORTH


@pytest.mark.parametrize("days", [400, pytest.param(-400, marks=pytest.mark.long)])
def test_a_wall_clock_that_was_set_makes_no_orphan_old_or_everlasting(world: World, days: int) -> None:
    study = reserve_as_if_crashed(world, "old", timedelta(days=days))
    dropped = {"a.dcm": world.drop("a.dcm", clinic=SOUTH, seed="old")}
    clock = TurnedClock()
    with world.running(clock=clock) as importer:
        wait_for_looks(importer)
        assert world.waiting(SOUTH) == dropped
        assert (world.study(study) or {})["clinic_id"] == NORTH
        let_pass(ORPHAN_SECONDS, importer, clock)
        wait_until(lambda: world.done(SOUTH) == dropped)


@pytest.mark.parametrize("days", [400, -400])
def test_a_wall_clock_that_is_set_neither_hurries_nor_holds_up_the_settling(world: World, days: int) -> None:
    """Metadata that an archive serves within its StableAge may be those of before a correction."""
    world.drop("a.dcm", seed="a")
    clock, wall = TurnedClock(), TurnedClock()

    def settled() -> bool:
        return bool((world.study(sample_uid("a", "study")) or {})["settled"])

    with world.running(clock=clock, now=wall.wall, archive_stable_age_seconds=200) as importer:
        wait_until(lambda: (found := world.study(sample_uid("a", "study"))) and found["settles_at"])
        wait_for_looks(importer)
        wall.turn(timedelta(days=days).total_seconds())
        wait_for_looks(importer)
        assert not settled()
        let_pass(202, importer, clock, wall)
        wait_until(settled)


def test_what_was_stored_before_a_crash_is_listed_at_the_next_start(world: World) -> None:
    world.drop("a.dcm", seed="a")
    with world.running():
        wait_until(world.done)
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 1)
    with world.catalog.write() as connection:
        connection.execute(studies.update().values(state="provisional", refreshed=0, instance_count=0))
    with world.running():
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 1)
    row = world.study(sample_uid("a", "study"))
    assert row
    assert (row["state"], row["marked"]) == ("confirmed", row["refreshed"])


def test_a_study_that_takes_long_is_shown_as_far_as_it_is(world: World) -> None:
    world.server.rule = lambda _sent: time.sleep(0.1)
    for number in range(300):
        world.drop(f"{number}.dcm", seed="a", instance_number=number)
    with world.running(upload_workers=1, show_seconds=0.1):
        row = wait_until(
            lambda: (found := world.study(sample_uid("a", "study"))) and found["instance_count"] and found
        )
        assert row["instance_count"] < 300
        assert row["marked"] > row["refreshed"]


def test_events_are_hints_that_a_folder_is_worth_a_look(world: World) -> None:
    with world.running(rescan_seconds=50) as importer:
        wait_until(lambda: importer.full_looks)
        world.drop("study/a.dcm")
        wait_until(world.done, 30)


def test_without_events_the_periodic_look_has_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from importer.inbox import hints  # noqa: PLC0415 - its observer is taken away

    def fails(**_options: Any) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(hints, "Observer", fails)
    with world.running() as importer:
        wait_until(lambda: importer.full_looks)
        world.drop("study/a.dcm")
        wait_until(world.done)


def test_an_observer_that_died_is_replaced(world: World) -> None:
    with world.running(rescan_seconds=0.1) as importer:
        watching = importer._scanner._hints
        first = wait_until(lambda: watching._observer)
        first.stop()
        wait_until(lambda: watching._observer is not first and watching._observer)


def test_while_the_archive_hangs_the_reader_waits_for_news(world: World) -> None:
    until = threading.Event()
    world.server.rule = lambda sent: Answers(503) if sent.number < 2 else Hangs(until)
    for number in range(100):
        world.drop(f"{number}.dcm", seed="a", instance_number=number)
    with world.running(rescan_seconds=10, upload_workers=1) as importer:
        wait_until(lambda: len(world.server.requests) == 3)
        wait_until(lambda: importer._reader.due() is None, what="it would ask again and again")
        until.set()


def test_a_file_that_the_catalog_chokes_on_waits_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ownership.reserve

    def reserve(connection: Any, claim: Claim, now: datetime, **how: Any) -> Any:
        if claim.study_uid == sample_uid("bad", "study"):
            raise ValueError("a value that no column takes")
        return original(connection, claim, now, **how)

    monkeypatch.setattr(ownership, "reserve", reserve)
    world.drop("bad.dcm", seed="bad")
    good = {f"{n}.dcm": world.drop(f"{n}.dcm", seed="good", instance_number=n) for n in range(5)}
    with world.running() as importer:
        wait_until(lambda: world.done() == good)
        labels = {"clinic": NORTH, "reason": "internal-error"}
        assert metric(importer, "importer_blocked_files", **labels) == 1
    assert set(world.waiting()) == {"bad.dcm"}


def test_the_client_takes_no_other_study_for_the_one_it_asked_for(world: World) -> None:
    world.drop("a.dcm", seed="a")
    with world.running():
        wait_until(world.done)
    archive = DicomWebArchive(world.settings())
    assert archive.study(Uid("1.2.3.4")) is None
    found = archive.study(Uid(sample_uid("a", "study")))
    assert found
    assert found.instance_count == 1
    archive.close()
