"""Who asks for many long lists at once keeps nobody else waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gateway import listings
from gateway.listings import LISTINGS_AT_ONCE, OF_ONE_SUBJECT, Listings
from gateway.problems import Unavailable
from support.gateway import MINE, THEIRS, World
from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "WAIT_SECONDS", 0.05)


@contextmanager
def released(event: threading.Event) -> Iterator[None]:
    """Nobody waits for it any longer than the block, whatever becomes of that."""
    try:
        yield
    finally:
        event.set()


def test_one_has_a_share_and_all_have_a_bound() -> None:
    room = Listings()
    with ExitStack() as at_work:
        for subject in ("nora", "sam"):
            for _ in range(OF_ONE_SUBJECT):
                at_work.enter_context(room.turn(subject))
            with pytest.raises(Unavailable):
                at_work.enter_context(room.turn(subject))
        assert LISTINGS_AT_ONCE == 2 * OF_ONE_SUBJECT
        with pytest.raises(Unavailable):
            at_work.enter_context(room.turn("rita"))
    # Nothing of it is left.
    assert not room._at_work
    with room.turn("rita"):
        pass


def test_who_waits_gets_the_room_that_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "WAIT_SECONDS", 60)
    room = Listings()

    def ask() -> bool:
        with room.turn("nora"):
            return True

    with ThreadPoolExecutor(6) as threads:
        with room.turn("nora"), room.turn("nora"):
            asked = [threads.submit(ask) for _ in range(6)]
            wait_until(lambda: len(room._changed._waiters) == 6)  # type: ignore[attr-defined]
            assert not any(each.done() for each in asked)
        assert all(each.result() for each in asked)


def test_an_archive_that_lists_slowly_is_waited_for_by_whoever_asked(world: World) -> None:
    upstream = world.app.extensions["gateway"].upstream
    ask, free = upstream.open, threading.Event()

    def held(path: str, *arguments: Any) -> Any:
        if MINE.study in path:
            free.wait(20)
        return ask(path, *arguments)

    upstream.open = held
    mine, theirs = f"/studies/{MINE.study}/instances", f"/studies/{THEIRS.study}/series"
    with ThreadPoolExecutor(12) as threads, released(free):
        asked = [threads.submit(world.get, mine) for _ in range(12)]
        wait_until(lambda: sum(each.done() for each in asked) >= 12 - OF_ONE_SUBJECT)
        assert world.get(theirs, world.sam).status_code == 200
        refused = [each.result() for each in asked if each.done()]
        assert {each.status_code for each in refused} == {503}
        assert all(each.headers["Retry-After"] for each in refused)
        free.set()
        assert [each.result().status_code for each in asked].count(200) == OF_ONE_SUBJECT
