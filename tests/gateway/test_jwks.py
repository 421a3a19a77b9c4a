"""The issuer's keys: when they are fetched, how long they are good."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from gateway.identity.jwks import (
    JwksCache,
    JwksFetcher,
    JwksFetchError,
    JwksUnavailableError,
    parse_keys,
)
from support.gateway import TurnedClock, public_jwk
from support.importing import wait_until

if TYPE_CHECKING:
    from support.gateway import Issuer, World

SECOND = {"kid": "second"}


class Source:
    """A key set in memory, for what is about time only."""

    def __init__(self) -> None:
        self.kids = ["first"]
        self.fetched = 0
        self.broken = False
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self) -> Any:
        self.fetched += 1
        self.entered.set()
        if self.hold:
            assert self.hold.wait(60)
        if self.broken:
            raise JwksFetchError("down")
        return {"keys": [public_jwk(kid) for kid in self.kids]}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cache(source: Source, clock: TurnedClock) -> JwksCache:
    return JwksCache(source, clock)


def test_known_keys_are_fetched_once_and_again_after_five_minutes(
    cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    for _ in range(3):
        assert cache.key("first")
    clock.turn(299)
    cache.key("first")
    assert source.fetched == 1
    clock.turn(1)
    cache.key("first")
    assert source.fetched == 2


def test_a_key_that_left_is_refused_with_the_next_fetch(
    cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    assert cache.key("first")
    source.kids = ["second"]
    clock.turn(300)
    assert cache.key("first") is None


def test_an_unknown_key_is_looked_for_at_once_but_not_twice_in_thirty_seconds(
    cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    cache.key("first")
    clock.turn(31)
    source.kids = ["first", "second"]
    assert cache.key("second")
    assert source.fetched == 2
    for number in range(1000):
        assert cache.key(f"made-up-{number}") is None
    assert source.fetched == 2
    clock.turn(30)
    assert cache.key("third") is None
    assert source.fetched == 3


def test_a_flood_of_unknown_keys_from_many_threads_fetches_once(
    cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    cache.key("first")
    clock.turn(31)
    source.hold = threading.Event()
    source.entered.clear()
    threads = [threading.Thread(target=cache.key, args=(f"made-up-{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
        assert source.entered.wait(10)
    source.hold.set()
    for thread in threads:
        thread.join(10)
    assert source.fetched == 2


def test_of_those_who_ask_for_unknown_keys_two_wait_for_a_fetch(
    cache: JwksCache, source: Source, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.identity.jwks._WAIT_SECONDS", 60)
    cache.key("first")
    clock.turn(31)
    source.kids = ["first", "second"]
    source.hold = threading.Event()
    with ThreadPoolExecutor(12) as threads:
        try:
            asked = [threads.submit(cache.key, "second") for _ in range(12)]
            wait_until(lambda: sum(each.done() for each in asked) == 10)
        finally:
            source.hold.set()
    found = [each.result() for each in asked]
    assert (found.count(None), source.fetched) == (10, 2)
    # Who was refused comes again.
    assert cache.key("second")


@pytest.mark.parametrize(("passed", "kid"), [(31, "unknown"), (300, "first")])
def test_who_asks_for_a_known_key_does_not_wait_for_a_fetch(
    passed: float, kid: str, cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    cache.key("first")
    clock.turn(passed)
    source.hold = threading.Event()
    source.entered.clear()
    waiting = threading.Thread(target=cache.key, args=(kid,))
    waiting.start()
    assert source.entered.wait(10)
    asked = time.monotonic()
    assert cache.key("first")
    assert time.monotonic() - asked < 30
    assert waiting.is_alive()
    source.hold.set()
    waiting.join(60)
    assert source.fetched == 2


def test_keys_outlive_an_outage_for_an_hour(cache: JwksCache, source: Source, clock: TurnedClock) -> None:
    cache.key("first")
    source.broken = True
    clock.turn(3599)
    assert cache.key("first")
    clock.turn(1)
    with pytest.raises(JwksUnavailableError):
        cache.key("first")
    source.broken = False
    clock.turn(30)
    assert cache.key("first")


def test_an_outage_is_asked_about_every_thirty_seconds_only(
    cache: JwksCache, source: Source, clock: TurnedClock
) -> None:
    cache.key("first")
    source.broken = True
    clock.turn(300)
    for _ in range(60):
        cache.key("first")
        clock.turn(1)
    assert source.fetched == 1 + 2


def test_without_any_key_the_answer_is_503_and_recovers_within_five_seconds(world: World) -> None:
    world.issuer.broken = True
    token = world.issuer.token()
    answer = world.get("/studies", token)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert world.app.test_client().get("/readyz").status_code == 503
    assert world.app.test_client().get("/healthz").status_code == 200
    world.issuer.broken = False
    world.clock.turn(5)
    assert world.get("/studies", token).status_code == 200
    assert world.app.test_client().get("/readyz").status_code == 200


def test_a_token_that_was_just_verified_is_refused_when_its_key_has_left(world: World) -> None:
    assert world.get("/studies", world.issuer.token()).status_code == 200
    world.clock.turn(290)
    token = world.issuer.token(exp=int(world.clock.now().timestamp()) + 600)
    assert world.get("/studies", token).status_code == 200
    world.issuer.keys = ["second"]
    world.clock.turn(10)
    assert world.get("/studies", token).status_code == 401
    assert world.get("/studies", world.issuer.token(kid="second")).status_code == 200


def test_discovery_must_be_the_issuers_own(issuer: Issuer) -> None:
    assert JwksFetcher(issuer.issuer)()["keys"]
    with pytest.raises(JwksFetchError):
        JwksFetcher(issuer.issuer.replace("/auth", "/other"))()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b"[" * 100_000, b'{"keys":[]}' + b" " * (2 << 20)],
    ids=["empty", "list", "object", "keys-object", "html", "deep", "large"],
)
def test_a_document_that_is_no_key_set_changes_nothing(body: bytes, world: World) -> None:
    assert world.get("/studies").status_code == 200
    world.issuer.body = body
    world.clock.turn(301)
    assert world.get("/studies").status_code == 200


def test_a_document_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.identity.jwks._FETCH_SECONDS", 0.2)
    enough = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with listener.accept()[0] as connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not enough.wait(0.01):
                connection.sendall(b" ")

    fetcher = JwksFetcher("https://issuer.example", f"http://127.0.0.1:{listener.getsockname()[1]}/certs")
    with listener, ThreadPoolExecutor(2) as threads:
        threads.submit(drip)
        try:
            with pytest.raises(JwksFetchError, match="too long"):
                threads.submit(fetcher).result(60)
        finally:
            enough.set()


def test_redirects_of_the_issuer_are_not_followed(issuer: Issuer) -> None:
    issuer.leads_to = "/elsewhere"
    assert JwksFetcher(issuer.issuer, f"{issuer.issuer}/elsewhere")()["keys"]
    with pytest.raises(JwksFetchError, match="status 302"):
        JwksFetcher(issuer.issuer, f"{issuer.issuer}/certs")()


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "/token", "", 7])
def test_only_addresses_of_the_web_are_taken_from_discovery(url: Any, issuer: Issuer) -> None:
    """A browser is sent there."""
    found = {"issuer": issuer.issuer, "authorization_endpoint": url}
    issuer.answer = lambda _: (200, json.dumps(found).encode())  # type: ignore[method-assign]
    with pytest.raises(JwksFetchError):
        JwksFetcher(issuer.issuer).discover("authorization_endpoint")


def test_of_two_keys_of_one_id_the_first_counts() -> None:
    first = public_jwk("first")
    keys = parse_keys({"keys": [first, public_jwk("second") | {"kid": "first"}]})
    assert [key.as_dict(private=False)["n"] for key in keys.values()] == [first["n"]]


def test_a_hundred_keys_are_looked_at() -> None:
    keys = [public_jwk("first") | {"kid": str(number)} for number in range(101)]
    assert list(parse_keys({"keys": keys})) == [str(number) for number in range(100)]
