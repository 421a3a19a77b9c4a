"""The reader: one thread for all clinics, so none may hold it."""

from __future__ import annotations

from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from importer.daemon import local_now
from importer.files.filing import Filer
from importer.files.tree import Identity
from importer.inbox.stability import Ripe
from importer.ledger import Ledger
from importer.metrics import ImporterMetrics
from importer.reading.claims import Claims
from importer.reading.holding import Holding
from importer.reading.reader import Reader
from importer.sending.health import Health
from importer.work import End, Place, Result, Settlement
from support.importing import NORTH, SOUTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.work import WaitingFile
    from pacs.ids import ClinicId
    from support.importing import World


class SlowFiler(Filer):
    """The real one; opening a file of northside takes three seconds of the clock that it is."""

    now = 100.0

    def clock(self) -> float:
        return self.now

    def open(self, file: WaitingFile) -> int:
        self.now += 3 if file.clinic_id == NORTH else 0.001
        return super().open(file)


def ripe(world: World, clinic: ClinicId, count: int) -> list[Ripe]:
    """So many stable files of a study that the catalog knows."""
    names = [f"{number}.dcm" for number in range(count)]
    for number, name in enumerate(names):
        content = world.drop(name, clinic=clinic, seed=clinic, instance_number=number)
    world.know(content, clinic)
    places = [(name, world.inbox / clinic / name) for name in names]
    return [Ripe(name, Identity.of(place.stat()), Place(0.0, 0)) for name, place in places]


def reader_of(
    world: World, filer: SlowFiler, metrics: ImporterMetrics, release: Callable[[WaitingFile, End], None]
) -> Reader:
    claims, health = Claims(world.catalog, local_now), Health(metrics)
    return Reader(
        filer,
        claims,
        health,
        metrics,
        Ledger(),
        holding=Holding(metrics),
        clock=filer.clock,
        release=release,
        capacity=9,
    )


def test_a_clinic_whose_files_take_long_to_read_lets_the_others_go_first(world: World) -> None:
    filer = SlowFiler(world.inbox, world.processed, world.failed, now=local_now)
    reader = reader_of(world, filer, ImporterMetrics(), lambda *_: None)
    reader.take_in(NORTH, ripe(world, NORTH, 5))
    reader.take_in(SOUTH, ripe(world, SOUTH, 45))
    batches = [batch for _ in range(6) if (batch := reader.turn())]
    assert [(batch.clinic_id, len(batch.files)) for batch in batches] == [
        (NORTH, 1),
        (SOUTH, 20),
        (SOUTH, 20),
        (SOUTH, 5),
        (NORTH, 1),
        (NORTH, 1),
    ]
    for batch in batches:
        reader.take_back(batch, [])


def test_what_comes_back_of_a_clinic_that_was_given_up_is_not_kept(world: World) -> None:
    """It might wait an hour for its next try, and be counted as stuck all that time."""
    filer = SlowFiler(world.inbox, world.processed, world.failed, now=local_now)
    metrics = ImporterMetrics()
    released: list[End] = []
    reader = reader_of(world, filer, metrics, lambda _file, end: released.append(end))
    reader.take_in(NORTH, ripe(world, NORTH, 1))
    batch = reader.turn()
    assert batch
    (file,) = batch.files
    Holding(metrics).note(file, stuck=True)
    reader.give_up(NORTH)
    reader.take_back(batch, [Result(file, End.LATER, sent=True, delay=3600)])
    assert released == [End.GONE]
    assert reader.totals.in_hand[NORTH] == 0
    assert metrics.registry.get_sample_value("importer_stuck_files", {"clinic": NORTH}) == 0


def test_what_turns_up_again_is_not_stored_over_a_newer_version(world: World) -> None:
    """Its folder was renamed while it was in line, and it was never read: who knows what it holds?"""
    filer = SlowFiler(world.inbox, world.processed, world.failed, now=local_now)
    reader = reader_of(world, filer, ImporterMetrics(), lambda *_: None)
    (older,) = ripe(world, SOUTH, 1)
    (world.inbox / SOUTH / "0.dcm").rename(world.inbox / SOUTH / "renamed.dcm")
    reader.take_in(SOUTH, [older])
    assert not reader.turn()
    (newer,) = ripe(world, SOUTH, 1)
    reader.take_in(SOUTH, [newer._replace(place=Place(5.0, 0))])
    batch = reader.turn()
    assert batch
    (file,) = batch.files
    file.settled = Settlement("stored")
    reader.take_back(batch, [Result(file, End.FILED, sent=True, stored=True)])
    moved = Identity.of((world.inbox / SOUTH / "renamed.dcm").stat())
    reader.take_in(SOUTH, [older._replace(path="renamed.dcm", identity=moved)])
    again = reader.turn()
    assert again
    assert [file.settled and file.settled.reason for file in again.moves] == ["superseded"]
    reader.take_back(again, [])


class StumblingFiler(SlowFiler):
    """The real one, with a bug of our own: in what is asked before files are opened, or after."""

    before: list[Exception]
    after: list[Exception]

    def obstacle(self, clinic_id: ClinicId, size: int) -> str:
        if self.before:
            raise self.before.pop()
        return super().obstacle(clinic_id, size)

    @contextmanager
    def keeping_folders(self) -> Iterator[None]:
        with super().keeping_folders():
            yield
        if self.after:
            raise self.after.pop()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_bug_in_a_turn_costs_no_file_and_leaves_no_gate_shut(world: World, when: str) -> None:
    filer = StumblingFiler(world.inbox, world.processed, world.failed, now=local_now)
    filer.before = filer.after = []
    setattr(filer, when, [ValueError("a bug")])
    metrics = ImporterMetrics()
    reader = reader_of(world, filer, metrics, lambda *_: None)
    reader.take_in(SOUTH, ripe(world, SOUTH, 3))
    reader._health.archive.failed("status-503", filer.now)
    filer.now += 1
    with pytest.raises(ValueError, match="a bug"):
        reader.turn()
    taken = []
    while batch := reader.turn():
        taken += [file.path for file in batch.files]
        reader._health.archive.succeeded(filer.now)
        reader.take_back(batch, [])
    assert taken == ["0.dcm", "1.dcm", "2.dcm"]


def test_the_last_news_before_the_end_is_not_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An uploader's result may come in while the reader finds that the uploaders have ended."""
    news: SimpleQueue[str] = SimpleQueue()
    with world.running() as importer:
        pass
    told = iter([lambda: news.put("the last result")])

    def join(_timeout: float) -> bool:
        for last in told:
            importer._news.put(last)
        return True

    monkeypatch.setattr(importer._workers, "join", join)
    importer._read()
    assert news.get_nowait() == "the last result"
