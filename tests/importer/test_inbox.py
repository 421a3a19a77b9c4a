"""What is seen in the inbox, and when it is handed out."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from importer.daemon import local_now
from importer.files import filing
from importer.files.filing import Filer
from importer.files.tree import LEAVING
from importer.inbox import look, presence, scanner
from importer.inbox.hints import Hints
from importer.inbox.look import EmptyFolders, Look, Strangers, strangers
from importer.inbox.stability import StabilityTracker
from pacs.catalog import ownership
from pacs.catalog.ownership import Claim
from pacs.ids import Uid
from support.corpus import instance_bytes
from support.importing import NORTH, SOUTH, metric, wait_until
from support.stow_server import Hangs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from importer.work import WaitingFile
    from support.importing import World


class NotedFiler(Filer):
    """The real one; notes what is opened."""

    opened: tuple[str, ...] = ()

    def open(self, file: WaitingFile) -> int:
        self.opened += (file.path,)
        return super().open(file)


def test_a_file_written_to_since_it_was_looked_at_is_not_sent_before_it_is_stable_again(world: World) -> None:
    older, newer = (instance_bytes(seed="grows", description=text) for text in ("Head", "Head and neck"))
    filer = NotedFiler(world.inbox, world.processed, world.failed, now=local_now)
    now = 0.0
    options = {"clock": lambda: now, "beat_seconds": 0.02, "cooldown_seconds": 5, "rescan_seconds": 15}
    with (world.inbox / NORTH / "a.dcm").open("wb", buffering=0) as writer:
        writer.write(older)
        with world.running(filer=filer, **options) as importer:
            wait_until(lambda: metric(importer, "importer_waiting_files", clinic=NORTH) == 1)
            # As long as it is not closed this makes no event, and no look is due.
            writer.seek(0)
            writer.write(newer)
            now = 5.0
            wait_until(lambda: filer.opened)
            writer.close()

            def done() -> bool:
                nonlocal now
                now += 0.1
                return bool(world.done())

            wait_until(done)
    assert now > 10
    assert world.done() == {"a.dcm": newer}
    assert len(world.server.requests) == 1


def test_a_full_inbox_is_handed_out_in_two_parts_each_file_once_and_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_FIRST_FILES", 2)
    uids = [f"2.25.{number}" for number in range(1, 8)]
    for uid in uids:
        world.drop(f"{uid}.dcm", seed="full", sop_instance_uid=uid)
    with world.running(upload_workers=1):
        wait_until(lambda: len(world.done()) == len(uids))
    assert [uid for sent in world.server.requests for uid in sent.uids] == uids


def test_a_file_that_comes_or_comes_back_is_told_and_one_that_the_importer_takes_away_is_not(
    tmp_path: Path,
) -> None:
    for clinic in (NORTH, SOUTH):
        (tmp_path / clinic / "study").mkdir(parents=True)
    filed = tmp_path / NORTH / "study" / "a.dcm"
    filed.write_bytes(b"filed")
    told: list[str] = []
    hints = Hints(tmp_path, told.append)
    hints.ensure()
    try:
        leaving = filed.rename(filed.with_name(f"{LEAVING}0123"))
        (tmp_path / SOUTH / "study" / "b.dcm").write_bytes(b"comes")
        wait_until(lambda: told)
        assert set(told) == {SOUTH}
        leaving.rename(filed)
        wait_until(lambda: NORTH in told)
    finally:
        hints.stop()


class Damaged:
    """An entry of a folder of which its file system tells no more than the name."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name = entry.name

    def is_dir(self, **_: object) -> bool:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


class DamagedStatus:
    """An entry that is known to be a file, whose status cannot be read."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name, self.is_dir, self.is_file = entry.name, entry.is_dir, entry.is_file

    def stat(self, **_: object) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Names that are damaged from now on, and how."""
    names: dict[str, type] = {}
    real = os.scandir

    @contextmanager
    def scandir(place: Any) -> Iterator[Iterator[Any]]:
        with real(place) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
            yield (names[entry.name](entry) if entry.name in names else entry for entry in ordered)

    monkeypatch.setattr(look.os, "scandir", scandir)
    return names


@pytest.mark.parametrize("kind", [Damaged, DamagedStatus])
@pytest.mark.parametrize("place", ["", "study1/"])
def test_an_entry_that_cannot_be_looked_at_hides_no_other(
    tmp_path: Path, damaged: dict[str, type], kind: type, place: str
) -> None:
    names = {f"{folder}{number}.dcm" for folder in ("", "study1/", "study2/") for number in range(3)}
    bad = f"{place}0.bad"
    for name in names | {bad, f"{bad}2"}:
        path = tmp_path / NORTH / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    tracker, empty = StabilityTracker(1), EmptyFolders(1)
    now = 0.0
    Look(tmp_path, NORTH, tracker, empty, lambda: now).through()
    damaged["0.bad"] = kind
    (tmp_path / NORTH / f"{bad}2").unlink()
    now = 2.0
    found = Look(tmp_path, NORTH, tracker, empty, lambda: now).through()
    assert found.unreadable == [f"{bad}/"]
    assert {ripe.path for ripe in tracker.take(now)} == names
    assert len(tracker) == len(names) + 1, "what was known of the damaged one is kept"


def test_an_entry_of_the_inbox_that_cannot_be_looked_at_hides_no_clinic(
    tmp_path: Path, damaged: dict[str, type]
) -> None:
    for name in (NORTH, SOUTH, "misspelled", "what"):
        (tmp_path / name).mkdir()
    (tmp_path / "stray.dcm").write_bytes(b"x")
    damaged |= {NORTH: Damaged, "what": Damaged}
    assert strangers(tmp_path, {NORTH, SOUTH}) == Strangers(unknown_folders=2, stray_files=1)


def test_a_share_that_hangs_is_told_and_so_is_how_long_files_wait_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call into a hard mount whose server is gone comes back: not even that it fails is known."""
    hangs, hanging, goes_on = threading.Event(), threading.Event(), threading.Event()
    real, now = filing.is_mounted, 0.0
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(presence._log, "error", lambda _event, **more: told.append(more))

    def is_mounted(place: Path) -> bool:
        if hangs.is_set() and place.name == SOUTH:
            hanging.set()
            goes_on.wait(60)
        return real(place)

    monkeypatch.setattr(filing, "is_mounted", is_mounted)
    world.drop("a.dcm")
    with world.running(
        clock=lambda: now, beat_seconds=0.02, cooldown_seconds=9000, rescan_seconds=15
    ) as importer:
        wait_until(lambda: metric(importer, "importer_waiting_files", clinic=NORTH) == 1)
        hangs.set()
        now = 20.0
        if not hanging.wait(5):
            now = 40.0  # the first look ended only when the clock had been put forward
            assert hanging.wait(20)
        assert importer.ready()["inbox"]
        now = 200.0  # longer than it may be silent since either
        assert not importer.ready()["inbox"]
        assert metric(importer, "importer_inbox_up") == 0
        assert metric(importer, "importer_oldest_waiting_seconds", clinic=NORTH) == 200
        assert importer.alive()["scanning"]
        now = 1000.0
        assert not importer.alive()["scanning"]
        assert not importer.supervise()
        assert not importer.supervise()
        assert told == [{"clinic": SOUTH}]
        hangs.clear()
        goes_on.set()
        wait_until(lambda: importer.ready()["inbox"])
        assert metric(importer, "importer_inbox_up") == 1
        # The reader's and the bookkeeper's clock jumped, too.
        wait_until(importer.supervise)


def test_a_bookkeeper_that_hangs_is_told(world: World) -> None:
    now = 0.0
    go_on = threading.Event()
    world.server.search_rule = lambda _path: Hangs(go_on)
    with world.running(clock=lambda: now, beat_seconds=0.02, archive_timeout_seconds=60) as importer:
        wait_until(lambda: importer.full_looks)
        with world.catalog.write() as connection:
            claim = Claim(NORTH, Uid("1.2"), Uid("1.2.1"), "1")
            ownership.reserve(connection, claim, local_now())

        def asked() -> bool:
            nonlocal now
            now += 0.1  # again and again: a look may end only when the clock was put forward
            return bool(world.server.searches)

        wait_until(asked)
        assert importer.alive()["bookkeeping"]
        now += 1000.0
        assert not importer.alive()["bookkeeping"]
        world.server.search_rule = lambda _path: None
        go_on.set()
        wait_until(importer.supervise)
