"""What the importer does when the archive, the network, the catalog or its own code lets it down."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, Self

import pytest
from pydantic import SecretStr
from sqlalchemy import event

from importer import bookkeeper
from importer.sending import upload
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, CatalogUnavailableError
from support.corpus import sample_uid
from support.importing import NORTH, SOUTH, SPEED, metric, observe, wait_until
from support.stow_server import (
    Answers,
    CannotName,
    CutAfterStoring,
    Fault,
    Hangs,
    Omits,
    Refuses,
    Resets,
    Sent,
    Warns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs.archive import StoreAnswer
    from support.importing import World


def drop_ten(world: World, **more: Any) -> dict[str, bytes]:
    return {f"{n}.dcm": world.drop(f"{n}.dcm", seed="a", instance_number=n, **more) for n in range(10)}


def uid_of(number: int, seed: str = "a") -> str:
    return sample_uid(seed, "instance", "CT", sample_uid(seed, "series", "CT"), number)


def only(number: int, fault: Fault) -> Callable[[Sent], Fault | None]:
    """The fault for every request that holds this instance."""
    return lambda sent: fault if uid_of(number) in sent.uids else None


class CountingArchive(DicomWebArchive):
    """The real client, counting how often it is asked to store."""

    asked = 0

    def store(self, parts: Any) -> StoreAnswer:
        self.asked += 1
        return super().store(parts)


@pytest.mark.long
def test_files_wait_while_nobody_listens_and_go_on_within_five_seconds(world: World) -> None:
    archive = CountingArchive(world.settings())
    world.server.stop()
    dropped = drop_ten(world)
    world.know(dropped["0.dcm"], NORTH)
    with world.running(archive=archive) as importer:
        wait_until(lambda: metric(importer, "importer_archive_up") == 0)
        assert importer.ready()["archive"] is False
        wait_until(lambda: archive.asked >= 2)
        assert world.waiting() == dropped
        assert world.failures() == {}
        world.server.start()
        began = time.monotonic()
        wait_until(lambda: world.done() == dropped)
        # And what a busy machine takes for ten files; `Gate`'s own test counts the five.
        assert time.monotonic() - began < 15
        wait_until(lambda: metric(importer, "importer_archive_up") == 1)
    archive.close()
    assert world.failures() == {}


FAULTS: list[Fault] = [Answers(status) for status in (401, 404, 429, 503)]
LIKE_OTHERS: list[Fault] = [Answers(status) for status in (403, 418, 500, 502, 507)]
LIKE_OTHERS += [Answers(307, location="http://127.0.0.1:9/")]
FAULTS += [
    Answers(302, location="/elsewhere"),
    Answers(200, b"<html>welcome to this network</html>"),
    Answers(200, b"{ cut", "application/dicom+json"),
    Answers(400, b"Bad Request", "text/plain"),
    Answers(409, b"{}", "application/json"),
    Answers(200, b"", "application/dicom+json"),
    Refuses(0xA700),
    Refuses(0x0110),
    Resets(),
    CutAfterStoring(),
]


@pytest.mark.parametrize(
    "fault",
    [*FAULTS, *(pytest.param(each, marks=pytest.mark.long) for each in LIKE_OTHERS)],
    ids=lambda fault: f"{type(fault).__name__}-{getattr(fault, 'status', '')}",
)
def test_no_fault_of_the_archive_fails_or_loses_a_file(world: World, fault: Fault) -> None:
    healed = threading.Event()
    world.server.rule = lambda _sent: None if healed.is_set() else fault
    dropped = drop_ten(world)
    with world.running_fast() as importer:
        wait_until(lambda: len(world.server.requests) >= 2)
        wait_until(lambda: metric(importer, "importer_archive_up") == 0)
        assert world.failures() == {}
        assert world.waiting() == dropped
        healed.set()
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 10)
        assert metric(importer, "importer_archive_up") == 1
    assert world.failures() == {}
    assert world.server.overlaps == 0


@pytest.mark.long
def test_an_archive_that_hangs_is_given_up_after_the_timeout(world: World) -> None:
    healed = threading.Event()
    world.server.rule = lambda _sent: None if healed.is_set() else Hangs(healed)
    dropped = drop_ten(world)
    with world.running(archive_timeout_seconds=0.3) as importer:
        wait_until(lambda: metric(importer, "importer_archive_up") == 0)
        healed.set()
        wait_until(lambda: world.done() == dropped)


def test_while_the_archive_is_away_only_one_file_at_a_time_is_tried(world: World) -> None:
    for number in range(200):
        world.drop(f"{number}.dcm", seed="many", instance_number=number)
    world.server.rule = lambda _sent: Answers(503)
    with world.running_fast():
        wait_until(lambda: len(world.server.requests) >= 8)
        # Those that were under way when it went away, and probes of one file each since.
        assert [len(sent.uids) for sent in world.server.requests[-2:]] == [1, 1]
        assert len(world.server.requests) < 15


def test_a_request_cut_in_the_middle_is_repeated(world: World) -> None:
    world.server.rule = lambda sent: Resets() if sent.number == 0 else None
    dropped = drop_ten(world)
    with world.running():
        wait_until(lambda: world.done() == dropped)
    assert world.failures() == {}


def test_one_bad_file_in_a_batch_fails_alone(world: World) -> None:
    world.server.rule = only(3, Omits(frozenset({uid_of(3)}), status=400))
    dropped = drop_ten(world)
    with world.running():
        wait_until(lambda: world.failures() and len(world.done()) == 9)
    assert world.reasons() == {"3.dcm": "refused-by-archive"}
    assert world.files(world.failed)["3.dcm"] == dropped["3.dcm"]


def test_a_batch_refused_whole_is_sent_file_by_file(world: World) -> None:
    world.server.rule = lambda sent: Omits(status=409) if len(sent.uids) > 1 else None
    dropped = drop_ten(world)
    with world.running():
        wait_until(lambda: world.done() == dropped)
    assert world.failures() == {}


def test_an_instance_listed_as_failed_fails_at_once_and_the_others_are_stored(world: World) -> None:
    world.server.rule = lambda _sent: Refuses(0xA900, frozenset({uid_of(3)}))
    drop_ten(world)
    with world.running():
        wait_until(lambda: world.failures() and len(world.done()) == 9)
    assert world.reasons() == {"3.dcm": "data-set-does-not-match-sop-class"}
    assert sum(uid_of(3) in sent.uids for sent in world.server.requests) == 1


def test_too_large_a_batch_is_sent_file_by_file_and_too_large_a_file_holds_up_nobody(world: World) -> None:
    limit = 6000
    world.server.rule = lambda sent: Answers(413) if sent.size > limit else None
    dropped = drop_ten(world)
    large = world.drop("large.dcm", seed="large", size=100)
    with world.running_fast() as importer:
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_stuck_files", clinic=NORTH) == 1)
        assert metric(importer, "importer_archive_up") == 1
        assert world.waiting() == {"large.dcm": large}
        limit = 1 << 30
        wait_until(lambda: "large.dcm" in world.done())
        wait_until(lambda: metric(importer, "importer_stuck_files", clinic=NORTH) == 0)
    assert world.failures() == {}


def test_a_file_that_breaks_every_request_is_stuck_alone(world: World) -> None:
    world.server.rule = only(3, Resets())
    dropped = drop_ten(world)
    for number in range(50):
        world.drop(f"more/{number}.dcm", seed="b", instance_number=number)
    with world.running_fast() as importer:
        wait_until(lambda: len(world.done()) == 59)
        wait_until(lambda: metric(importer, "importer_stuck_files", clinic=NORTH) == 1)
        assert world.waiting() == {"3.dcm": dropped["3.dcm"]}
        assert world.failures() == {}
        world.drop("later.dcm", clinic=SOUTH)
        wait_until(lambda: world.done(SOUTH))
        world.server.rule = lambda _sent: None
        wait_until(lambda: len(world.done()) == 60)


def test_a_full_disk_that_is_told_as_0110_fails_nothing_until_others_are_stored(world: World) -> None:
    world.server.rule = lambda _sent: Refuses(0x0110, frozenset({uid_of(3)}))
    world.drop("3.dcm", seed="a", instance_number=3)
    with world.running_fast() as importer:
        wait_until(lambda: len(world.server.requests) >= 3)
        assert world.failures() == {}
        assert metric(importer, "importer_stuck_files", clinic=NORTH) == 1
        world.drop("good.dcm", seed="b")
        wait_until(world.failures)
    assert world.reasons() == {"3.dcm": "processing-failure"}
    assert set(world.done()) == {"good.dcm"}


def test_what_was_sent_before_a_disk_was_full_shows_nothing_of_the_time_since(world: World) -> None:
    """Requests under way together end one after the other: the last may tell of images stored before."""
    sent_too, refused, healed = threading.Event(), threading.Event(), threading.Event()
    times: list[int] = []

    def rule(sent: Sent) -> Fault | None:
        if uid_of(3) not in sent.uids:
            sent_too.set()
            assert refused.wait(20)
            return None
        assert sent_too.wait(20)
        times.append(sent.number)
        return None if healed.is_set() else Refuses(0x0110)

    world.server.rule = rule
    dropped = world.drop("3.dcm", seed="a", instance_number=3)
    world.drop("other.dcm", clinic=SOUTH, seed="b")
    with world.running_fast(upload_workers=2) as importer:
        wait_until(lambda: metric(importer, "importer_stuck_files", clinic=NORTH) == 1)
        refused.set()
        wait_until(lambda: world.done(SOUTH))
        wait_until(lambda: world.failures() or len(times) >= 4)
        assert world.failures() == {}
        healed.set()
        wait_until(lambda: world.done() == {"3.dcm": dropped})


def test_out_of_resources_never_fails_a_file(world: World) -> None:
    world.server.rule = lambda _sent: Refuses(0xA700, frozenset({uid_of(3)}))
    drop_ten(world)
    with world.running_fast() as importer:
        wait_until(lambda: len(world.done()) == 9)
        wait_until(lambda: metric(importer, "importer_stuck_files", clinic=NORTH) == 1)
        world.drop("other.dcm", seed="b")
        wait_until(lambda: sum(uid_of(3) in sent.uids for sent in world.server.requests) >= 4)
        assert world.failures() == {}
        world.server.rule = lambda _sent: None
        wait_until(lambda: len(world.done()) == 11)


@pytest.mark.long
def test_an_instance_that_is_not_listed_for_long_is_stuck_alone_and_stored_in_the_end(world: World) -> None:
    world.server.rule = lambda _sent: Omits(frozenset({uid_of(3)}))
    dropped = drop_ten(world)

    def sent_alone() -> list[float]:
        return [sent.at * SPEED for sent in world.server.requests if sent.uids == (uid_of(3),)]

    with world.running_fast() as importer:
        told: list[bool] = []
        observe(importer.health.archive, told.append)
        for number in takewhile(lambda _: len(sent_alone()) < 7, count()):
            world.drop(f"{number}.dcm", clinic=SOUTH, seed="b", instance_number=number)
            wait_until(lambda number=number: len(world.done(SOUTH)) == number + 1)
        assert metric(importer, "importer_stuck_files", clinic=NORTH) == 1
        assert world.waiting() == {"3.dcm": dropped["3.dcm"]}
        world.server.rule = lambda _sent: None
        wait_until(lambda: world.done() == dropped)
        assert told == [], "others get through"
    assert world.failures() == {}
    times = sent_alone()
    assert times[6] - times[0] >= 1 + 2 + 4 + 8 + 16


@pytest.mark.long
def test_an_instance_that_is_not_listed_fails_not_while_nothing_else_is_stored(world: World) -> None:
    world.server.rule = lambda _sent: Omits(frozenset({uid_of(3)}))
    drop_ten(world)
    with world.running_fast():
        wait_until(lambda: len(world.done()) == 9)
        wait_until(
            lambda: world.failures() or sum(uid_of(3) in sent.uids for sent in world.server.requests) > 9
        )
        assert world.failures() == {}


def test_a_disk_that_fills_up_while_a_batch_is_under_way_fails_nothing(world: World) -> None:
    """An archive that then lists nothing at all stored others while these files were sent: no sign since."""
    healed, others_stored = threading.Event(), threading.Event()

    def rule(sent: Sent) -> Fault | None:
        if healed.is_set():
            return None
        if uid_of(1) in sent.uids and not others_stored.is_set():
            world.drop("other.dcm", clinic=SOUTH, seed="b")
            wait_until(lambda: world.done(SOUTH))
            others_stored.set()
        return Omits() if others_stored.is_set() or uid_of(1) in sent.uids else None

    world.server.rule = rule
    dropped = drop_ten(world)
    asked: list[int] = []
    with world.running_fast(upload_workers=2) as importer:
        observe(importer.health.archive, lambda _up: asked.append(len(world.server.requests)))
        wait_until(lambda: asked or world.failures())
        wait_until(lambda: world.failures() or len(world.server.requests) > asked[0] + 10)
        assert world.failures() == {}
        # The batch, the other clinic's file, and what each worker had when the first was told of alone.
        assert asked[0] <= 2 + 2 * 2
        assert world.waiting() == dropped
        healed.set()
        wait_until(lambda: world.done() == dropped)


@pytest.mark.parametrize("files", [1, 10])
def test_a_file_that_the_archive_cannot_even_name_fails_and_holds_up_nobody(world: World, files: int) -> None:
    world.server.rule = lambda _sent: CannotName(0xC000, frozenset({uid_of(0)}))
    for number in range(files):
        world.drop(f"{number}.dcm", seed="a", instance_number=number)
    with world.running() as importer:
        told: list[bool] = []
        observe(importer.health.archive, told.append)
        wait_until(lambda: world.failures() and len(world.done()) == files - 1)
        assert told == []
    assert world.reasons() == {"0.dcm": "cannot-understand"}


def test_images_that_the_archive_changed_are_counted_and_told_once_a_study(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(upload._log, "warning", lambda _event, **more: told.append(more))
    world.server.rule = lambda _sent: Warns(0xB006)
    dropped = drop_ten(world)
    with world.running() as importer:
        wait_until(lambda: world.done() == dropped)
        labels = {"clinic": NORTH, "reason": "elements-discarded"}
        assert metric(importer, "importer_warnings_total", **labels) == 10
    study = sample_uid("a", "study")
    assert told == [{"clinic": NORTH, "study_uid": study, "reason": "elements-discarded"}]


def test_an_instance_that_is_listed_in_the_end_is_stored(world: World) -> None:
    asked: list[int] = []

    def rule(sent: Sent) -> Fault | None:
        if uid_of(3) in sent.uids:
            asked.append(sent.number)
            return Omits(frozenset({uid_of(3)})) if len(asked) < 4 else None
        return None

    world.server.rule = rule
    dropped = drop_ten(world)
    with world.running_fast():
        wait_until(lambda: world.done() == dropped)
    assert world.failures() == {}


class FlakyCatalog(Catalog):
    """The real catalog, until it is told to be away."""

    away = full = False
    refused = 0

    @classmethod
    def beside(cls, catalog: Catalog) -> Self:
        """On the same database."""
        return cls.connect(SecretStr(catalog._engine.url.render_as_string(hide_password=False)))

    @contextmanager
    def read(self) -> Iterator[Any]:
        self._check()
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Any]:
        self._check()
        with super().write() as connection:
            if self.full:
                event.listen(connection, "before_cursor_execute", self._refuse_inserts)
            yield connection

    def _refuse_inserts(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            self.refused += 1
            raise CatalogUnavailableError("full")

    def _check(self) -> None:
        if self.away:
            self.refused += 1
            raise CatalogUnavailableError("away")


def test_files_wait_while_the_catalog_is_away(world: World) -> None:
    catalog = FlakyCatalog.beside(world.catalog)
    with world.running(catalog=catalog) as importer:
        wait_until(lambda: importer.full_looks)
        catalog.away = True
        dropped = drop_ten(world)
        wait_until(lambda: metric(importer, "importer_catalog_up") == 0)
        wait_until(lambda: catalog.refused >= 5)
        assert world.waiting() == dropped
        assert world.server.requests == []
        assert importer.ready()["catalog"] is False
        catalog.away = False
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_catalog_up") == 1)
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 10)


def test_a_full_catalog_is_away_until_it_can_be_written_again(world: World) -> None:
    """It answers who reads, and who updates nothing: that is no sign that it is back."""
    catalog = FlakyCatalog.beside(world.catalog)
    told: list[bool] = []
    with world.running(catalog=catalog) as importer:
        wait_until(lambda: importer.full_looks)
        observe(importer.health.catalog, told.append)
        catalog.full = True
        dropped = drop_ten(world)
        wait_until(lambda: told)
        looked = importer.full_looks
        wait_until(lambda: importer.full_looks > looked + 5 and catalog.refused >= 2)
        assert told == [False]
        catalog.full = False
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: told == [False, True])


def test_an_outage_of_the_catalog_ends_when_what_waited_for_it_is_taken_away(world: World) -> None:
    catalog = FlakyCatalog.beside(world.catalog)
    with world.running(catalog=catalog) as importer:
        wait_until(lambda: importer.full_looks)
        catalog.full = True
        world.drop("a.dcm")
        wait_until(lambda: not importer.health.catalog.up)
        (world.inbox / NORTH / "a.dcm").unlink()
        wait_until(lambda: importer.health.catalog.up)


def test_a_study_stored_while_the_catalog_went_away_is_listed_when_it_is_back(world: World) -> None:
    catalog = FlakyCatalog.beside(world.catalog)

    def rule(_sent: Sent) -> Fault | None:
        catalog.away = True
        return None

    world.server.rule = rule
    dropped = drop_ten(world)
    with world.running(catalog=catalog):
        wait_until(lambda: world.done() == dropped)
        assert (world.study(sample_uid("a", "study")) or {})["state"] == "provisional"
        catalog.away = False
        world.server.rule = lambda _sent: None
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 10)
        wait_until(world.imports)


def test_a_search_that_fails_delays_the_list_and_loses_nothing(world: World) -> None:
    def rule(_sent: Sent) -> Fault | None:
        world.server.searches_fail = True
        return None

    world.server.rule = rule
    dropped = drop_ten(world)
    with world.running():
        wait_until(lambda: world.done() == dropped)
        row = world.study(sample_uid("a", "study"))
        assert row
        assert row["marked"] > row["refreshed"]
        world.server.rule = lambda _sent: None
        world.server.searches_fail = False
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {})["instance_count"] == 10)


class BrokenArchive(DicomWebArchive):
    """The real client, with a bug of our own in its way."""

    errors: list[BaseException]

    def store(self, parts: Any) -> StoreAnswer:
        if self.errors:
            raise self.errors.pop()
        return super().store(parts)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit("a dead thread")])
def test_a_bug_in_an_uploader_costs_no_file_and_a_dead_uploader_is_replaced(
    world: World, error: BaseException
) -> None:
    archive = BrokenArchive(world.settings())
    archive.errors = [error] * 6
    dropped = drop_ten(world)
    with world.running_fast(archive=archive, upload_workers=1) as importer:
        wait_until(lambda: importer.supervise() and world.done() == dropped, 30)
        if isinstance(error, ValueError):
            assert metric(importer, "importer_internal_errors_total") == 6
    archive.close()


def test_an_archive_that_keeps_old_images_is_told_loudly(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    world.server.overwrites = False
    told: list[str] = []
    original = bookkeeper._log.error
    bookkeeper._log.error = lambda event, **more: told.append(event) or original(event, **more)  # type: ignore[method-assign]
    try:
        with world.running() as importer:
            wait_until(lambda: importer.full_looks)
            wait_until(lambda: told)
    finally:
        bookkeeper._log.error = original  # type: ignore[method-assign]
    assert "corrected image" in told[0]
