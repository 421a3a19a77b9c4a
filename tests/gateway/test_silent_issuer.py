"""An issuer that takes requests and says nothing holds few of the threads that sign somebody in."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway import places
from gateway.explorer import sign_in
from support.explorer import NAVIGATION, PENDING, explorer_settings
from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs.catalog import Catalog
    from support.gateway import SampleArchive, World

WAITING = 4


class Silent:
    """Takes connections until it is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._taken: list[socket.socket] = []

    def asked(self) -> int:
        """How many have connected."""
        self._listener.setblocking(False)
        try:
            while True:
                self._taken.append(self._listener.accept()[0])
        except BlockingIOError:
            return len(self._taken)

    def close(self) -> None:
        self.asked()
        for each in (*self._taken, self._listener):
            each.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield Silent(listener)


@pytest.fixture
def world(
    silent: Silent,
    sqlite_catalog: Catalog,
    make_world: Callable[..., World],
    embedded_archive: SampleArchive,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    # For as long as the test lasts, the issuer is waited for.
    monkeypatch.setattr("gateway.explorer.provider._ONCE", {"allow_redirects": False, "timeout": (60, 60)})
    url = f"http://127.0.0.1:{silent._listener.getsockname()[1]}/token"
    given = explorer_settings("http://127.0.0.1:9", oidc_token_url=url)
    return make_world(sqlite_catalog, embedded_archive, **given)


@contextmanager
def browsers(silent: Silent) -> Iterator[ThreadPoolExecutor]:
    """Threads of those who wait for the issuer; in the end it hangs up."""
    with ThreadPoolExecutor(2 * WAITING) as threads:
        try:
            yield threads
        finally:
            silent.close()


def begun(world: World) -> tuple[str, str]:
    """The state and the cookie of a sign-in."""
    answer = world.app.test_client(use_cookies=False).get("/orthanc/", headers=NAVIGATION)
    assert answer.status_code == 302
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert cookie.startswith(PENDING)
    return parse_qs(urlsplit(answer.headers["Location"]).query)["state"][0], cookie


def come_back(world: World, state: str, cookie: str) -> int:
    client = world.app.test_client(use_cookies=False)
    headers = {**NAVIGATION, "Cookie": cookie}
    return client.get(f"/orthanc/callback?code=x&state={state}", headers=headers).status_code


def test_a_sign_in_is_asked_about_once_however_often_it_comes_back(world: World, silent: Silent) -> None:
    state, cookie = begun(world)
    with browsers(silent) as threads:
        first = threads.submit(come_back, world, state, cookie)
        wait_until(lambda: silent.asked() == 1)
        assert [come_back(world, state, cookie) for _ in range(3)] == [400] * 3
        assert silent.asked() == 1
        assert not first.done()
    assert first.result() == 503


def test_four_threads_wait_for_an_issuer_that_hangs(
    world: World, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.5)
    with browsers(silent) as threads:
        waiting = [threads.submit(come_back, world, *begun(world)) for _ in range(WAITING)]
        wait_until(lambda: silent.asked() == WAITING)
        assert [come_back(world, *begun(world)) for _ in range(3)] == [503] * 3
        assert silent.asked() == WAITING
        assert not any(each.done() for each in waiting)
        assert world.get("/studies").status_code == 200
    assert [each.result() for each in waiting] == [503] * WAITING


def test_once_it_is_back_it_is_asked_again(world: World, silent: Silent) -> None:
    with browsers(silent) as threads:
        waiting = [threads.submit(come_back, world, *begun(world)) for _ in range(WAITING)]
        wait_until(lambda: silent.asked() == WAITING)
        for each in silent._taken:
            each.sendall(b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n")
            each.sendall(b'{"error":"invalid_grant"}')
        assert [each.result(60) for each in waiting] == [400] * WAITING
        again = threads.submit(come_back, world, *begun(world))
        wait_until(lambda: silent.asked() == WAITING + 1)
    assert again.result() == 503


def test_who_finds_all_places_taken_waits_while_others_are_answered(
    world: World, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(places, "WAIT_SECONDS", 60)
    with browsers(silent) as threads:
        waiting = [threads.submit(come_back, world, *begun(world)) for _ in range(WAITING + 1)]
        wait_until(lambda: silent.asked() == WAITING)
        silent._taken[0].close()
        wait_until(lambda: silent.asked() == WAITING + 1)
    assert [each.result() for each in waiting] == [503] * (WAITING + 1)


def test_so_many_states_are_remembered_and_the_oldest_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "_SPENT_MAX", 2)
    spent = sign_in._Spent()
    assert [spent.add(each) for each in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
