"""Back-off, gates, turns and order: the clock is passed in."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from importer.files.tree import Identity
from importer.metrics import ImporterMetrics
from importer.reading.order import InstanceOrder
from importer.reading.schedule import FairQueue
from importer.sending import health
from importer.sending.backoff import exponential
from importer.sending.health import Gate, Health
from importer.work import Known, Place, Settlement, WaitingFile
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    import pytest

NORTH, SOUTH = ClinicId("northside"), ClinicId("southside")


def file(path: str, clinic: ClinicId = NORTH, size: int = 10, uid: str = "") -> WaitingFile:
    made = WaitingFile(clinic, path, Identity(1, 1, size, 1), Place(0.0, 0), 0.0)
    if uid:
        made.known = Known(sop_instance_uid=Uid(uid))
    return made


def taken(queue: FairQueue, now: float = 0, count: int = 2, size: int = 1000) -> list[str]:
    turn = queue.take(now, count=count, size=size)
    return [each.path for each in turn.files] if turn else []


def test_back_off_doubles_up_to_its_cap() -> None:
    assert [exponential(n, first=1, cap=5) for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert exponential(10_000, first=1, cap=3600) == 3600


def test_clinics_take_turns() -> None:
    queue = FairQueue()
    for number in range(6):
        queue.add(file(f"n{number}"))
    queue.add(file("s0", SOUTH))
    assert [taken(queue) for _ in range(5)] == [["n0", "n1"], ["s0"], ["n2", "n3"], ["n4", "n5"], []]


def test_a_turn_is_bounded_by_bytes_but_a_large_file_goes() -> None:
    queue = FairQueue()
    for size in (600, 500, 5000, 10):
        queue.add(file(str(size), size=size))
    assert [taken(queue, count=9) for _ in range(4)] == [["600"], ["500"], ["5000"], ["10"]]


def test_files_sent_alone_alternate_with_new_ones() -> None:
    queue = FairQueue()
    for name in ("a", "b"):
        queue.add_alone(file(name))
    for number in range(6):
        queue.add(file(str(number)))
    assert [taken(queue) for _ in range(5)] == [["0", "1"], ["a"], ["2", "3"], ["b"], ["4", "5"]]


def test_a_file_that_waits_is_taken_when_it_is_due() -> None:
    queue = FairQueue()
    queue.add_later(file("later"), 10)
    assert not queue.is_ready(9)
    assert taken(queue, 9) == []
    assert queue.next_due(9) == 10
    assert queue.is_ready(10)
    assert taken(queue, 10) == ["later"]


def test_a_blocked_clinic_does_not_hold_up_another() -> None:
    queue = FairQueue()
    queue.add(file("n"))
    queue.add(file("s", SOUTH))
    queue.block(NORTH, 5)
    assert taken(queue) == ["s"]
    assert taken(queue) == []
    assert queue.next_due(0) == 5
    assert taken(queue, 5) == ["n"]


def test_a_clinic_that_rests_lets_the_others_go_first_but_is_not_held_up_alone() -> None:
    queue = FairQueue()
    for number in range(4):
        queue.add(file(f"n{number}"))
        queue.add(file(f"s{number}", SOUTH))
    queue.rest(NORTH, 5)
    assert [taken(queue, 4, 1) for _ in range(2)] == [["s0"], ["s1"]]
    assert [taken(queue, 5, 1) for _ in range(2)] == [["n0"], ["s2"]]
    queue.rest(NORTH, 9)
    assert [taken(queue, 6, 1) for _ in range(2)] == [["s3"], ["n1"]]


def test_files_put_back_are_first_again_in_their_order() -> None:
    queue = FairQueue()
    for number in range(4):
        queue.add(file(str(number)))
    turn = queue.take(0, count=2, size=100)
    assert turn
    queue.add_first(turn.files)
    assert taken(queue, count=9) == ["0", "1", "2", "3"]


def test_files_of_one_instance_go_one_after_the_other_in_order() -> None:
    order = InstanceOrder()
    first, second, third, other = (
        file(n, uid=u) for n, u in zip("abcd", ("1.1", "1.1", "1.1", "1.2"), strict=True)
    )
    assert order.enter(first) is first
    assert order.enter(second) is first
    assert order.enter(third) is first
    assert order.enter(other) is other
    assert order.enter(first) is first
    assert order.leave(first) is second
    assert order.enter(second) is second
    assert order.leave(second) is third
    assert order.leave(third) is None
    last = file("e", uid="1.1")
    assert order.enter(last) is last


def test_no_file_waits_for_another_clinics_or_anothers_study_because_of_its_uid() -> None:
    order = InstanceOrder()
    mine, theirs, elsewhere = file("a", uid="1.1"), file("b", SOUTH, uid="1.1"), file("c", uid="1.1")
    elsewhere.known = Known(Uid("1.9"), Uid("1.9.1"), Uid("1.1"))
    assert [order.enter(each) for each in (mine, theirs, elsewhere)] == [mine, theirs, elsewhere]


def in_order(order: InstanceOrder, *names: str) -> list[WaitingFile]:
    """Versions of one image, oldest first; the first has the turn."""
    made = [file(name, uid="1.1") for name in names]
    assert {order.enter(each) for each in made} == {made[0]}
    return made


def fail_often(older: WaitingFile, trouble: str = "stuck") -> None:
    for _ in range(5):
        older.attempt(trouble)


def test_a_newer_version_goes_before_one_that_was_tried_often_and_before_no_other() -> None:
    order = InstanceOrder()
    older, newer = in_order(order, "old", "new")
    assert order.give_way(older) is None
    fail_often(older, "waiting-for-reservation")
    assert order.give_way(older) is None
    fail_often(older)
    assert order.give_way(older) is newer
    assert order.enter(newer) is newer
    fail_often(newer)
    assert order.give_way(newer) is None


def test_those_that_the_stored_version_overtook_are_filed_before_it_as_failed() -> None:
    order = InstanceOrder()
    oldest, older, newest, next_one = in_order(order, "1", "2", "3", "4")
    for each, follower in ((oldest, older), (older, newest)):
        fail_often(each)
        assert order.give_way(each) is follower
    assert order.supersede(newest) is oldest
    assert [each.settled and each.settled.reason for each in (oldest, older)] == ["superseded"] * 2
    assert newest.settled is None
    assert [order.leave(each) for each in (oldest, older, newest, next_one)] == [
        older,
        newest,
        next_one,
        None,
    ]


def test_no_version_is_sent_after_a_newer_one_that_is_stored() -> None:
    """It could not be read, or was touched and watched anew: it was not in line when its turn was."""
    order = InstanceOrder()
    newer = file("b", uid="1.1")
    newer.place, newer.settled = Place(5.0, 7), Settlement("stored")
    assert order.enter(newer) is newer
    order.leave(newer)
    outdated = []
    for place in (Place(4.0, 9), Place(5.0, 6), Place(5.0, 7), Place(5.0, 8), Place(6.0, 1)):
        other = file("a", uid="1.1")
        other.place = place
        outdated.append(order.outdated(other) is not None)
    assert outdated == [True, True, False, False, False]
    another = file("a", SOUTH, uid="1.1")
    assert order.outdated(another) is None


def test_images_that_were_stored_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importer.reading.order._REMEMBERED", 3)
    order = InstanceOrder()
    for number, uid in enumerate(("1.1", "1.2", "1.3", "1.1", "1.4")):
        stored = file("a", uid=uid)
        stored.place, stored.settled = Place(10.0 + number, 0), Settlement("stored")
        order.enter(stored)
        order.leave(stored)
    known = [uid for uid in ("1.1", "1.2", "1.3", "1.4") if order.outdated(file("b", uid=uid))]
    assert known == ["1.1", "1.3", "1.4"]


def test_one_that_was_overtaken_goes_on_when_nothing_becomes_of_the_newer() -> None:
    order = InstanceOrder()
    older, newer, newest = in_order(order, "1", "2", "3")
    fail_often(older)
    assert order.give_way(older) is newer
    assert order.leave(newer) is older
    assert older.settled is None
    assert order.leave(older) is newest


def test_a_file_that_waits_long_is_taken_up_sooner_when_it_holds_up_a_newer_one() -> None:
    queue = FairQueue()
    one, other = file("one"), file("other")
    queue.add_later(one, 3600)
    queue.add_later(other, 50)
    queue.hasten(one, 30)
    queue.hasten(other, 60)
    assert [taken(queue, now) for now in (29, 30, 49, 50)] == [[], ["one"], [], ["other"]]


def test_while_a_store_is_away_one_probe_at_a_time_may_try() -> None:
    gate = Gate("the archive", jitter=lambda: 1.0)
    assert gate.may_try(0)
    assert gate.may_try(0)
    gate.failed("unreachable", 0)
    assert not gate.up
    assert not gate.may_try(0.4)
    assert gate.may_try(0.5)
    assert not gate.may_try(0.6)
    gate.failed("unreachable", 0.6)
    assert not gate.may_try(1.5)
    assert gate.may_try(1.6)
    gate.succeeded(1.7)
    assert gate.up
    assert gate.may_try(1.7)


def test_who_reads_does_not_open_the_gate_that_a_writer_shut() -> None:
    gate = Gate("the catalog", jitter=lambda: 1.0)
    gate.failed("writing", 0)
    gate.failed("reading", 0)
    gate.succeeded(1, of="reading")
    assert not gate.up
    gate.succeeded(2, of="writing")
    assert gate.up
    gate.succeeded(3, of="writing")
    assert gate.may_try(3)


def test_a_probe_that_is_not_sent_is_given_back() -> None:
    gate = Gate("the archive", jitter=lambda: 1.0)
    gate.failed("timeout", 0)
    assert gate.may_try(1)
    gate.cancel()
    assert gate.may_try(1)


def test_a_probe_ends_with_the_attempt_unless_that_goes_on() -> None:
    gate = Gate("the archive", jitter=lambda: 1.0)
    gate.failed("timeout", 0)
    with suppress(ZeroDivisionError), gate.attempt(1) as broken:
        assert broken.granted
        raise ZeroDivisionError
    with gate.attempt(1) as made:
        assert made.granted
        made.goes_on = True
    with gate.attempt(1) as second:
        assert not second.granted
    assert not gate.may_try(1)


def test_requests_that_fail_together_are_one_failure() -> None:
    gate = Gate("the archive", jitter=lambda: 1.0)
    for _ in range(8):
        gate.failed("interrupted", 0)
    assert gate.may_try(0.5)


def test_a_recovery_is_noticed_within_five_seconds() -> None:
    gate = Gate("the archive")
    now = 0.0
    for _ in range(50):
        gate.failed("unreachable", now)
        assert gate.due(now) <= 5
        now += gate.due(now)
        assert gate.may_try(now)


def test_the_gauge_says_what_the_gate_says_in_whatever_order_they_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One connection is reset while another's request succeeds; telling the log of it takes time."""
    metrics = ImporterMetrics()
    gate = Health(metrics).archive
    log = SimpleNamespace(warning=lambda *_, **__: gate.succeeded(1), info=lambda *_, **__: None)
    monkeypatch.setattr(health, "_log", log)
    gate.failed("interrupted", 0)
    assert gate.up
    assert "importer_archive_up 1.0" in generate_latest(metrics.registry).decode()
