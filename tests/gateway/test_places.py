"""An archive that hangs leaves threads to whoever does not need it, and gets none for ever."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import HTTPError
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from demo.archive import create_archive
from gateway import listings, places
from gateway.archive.upstream import archive_places
from gateway.places import Places
from gateway.problems import Unavailable
from pacs.settings import ArchiveSettings
from support.explorer import Door, explorer_settings
from support.gateway import DOCUMENT, MINE, THEIRS, SampleArchive, World, running
from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from pacs.catalog import Catalog

THREADS, OF_ALL, OF_ONE = 16, 12, 8
THUMBNAIL = f"{MINE.path()}/thumbnail"


@contextmanager
def seated(room: Places, *subjects: str) -> Iterator[None]:
    """Each has a place, in a thread of its own, for as long as the block takes."""
    leave = threading.Event()

    def sit(subject: str, taken: threading.Event) -> None:
        with room.take(subject):
            taken.set()
            leave.wait(60)

    with ThreadPoolExecutor(len(subjects)) as threads:
        try:
            for subject in subjects:
                taken = threading.Event()
                threads.submit(sit, subject, taken)
                assert taken.wait(20)
            yield
        finally:
            leave.set()


def is_refused(room: Places, subject: str) -> bool:
    try:
        room.take(subject).give_back()
    except Unavailable as problem:
        return problem.status == 503 and "Retry-After" in problem.headers
    return False


def test_one_has_a_share_and_all_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.05)
    room = archive_places(THREADS)
    with seated(room, *["nora"] * OF_ONE):
        assert is_refused(room, "nora")
        with seated(room, *["sam"] * (OF_ALL - OF_ONE)):
            assert is_refused(room, "sam")
            assert is_refused(room, "rita")
        assert not is_refused(room, "rita")
    assert not is_refused(room, "nora")
    assert not room._seats
    assert not room._last_answers


@pytest.mark.parametrize("threads", range(1, 6))
def test_of_few_threads_one_may_wait(threads: int) -> None:
    room = archive_places(threads)
    assert not is_refused(room, "nora")
    assert 1 <= room._of_one <= room._of_all <= max(1, threads - 1)


def test_who_waits_gets_the_place_that_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(places, "WAIT_SECONDS", 60)
    room = Places(1, 1, "busy")
    with ThreadPoolExecutor(1) as threads:
        with seated(room, "nora"):
            waiting = threads.submit(is_refused, room, "nora")
            wait_until(lambda: bool(room._changed._waiters))  # type: ignore[attr-defined]
        assert not waiting.result(60)


def test_where_nobody_is_answered_none_waits_whatever_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(places, "WAIT_SECONDS", 60)
    room = Places(2, 1, "busy")
    began = time.monotonic()
    with seated(room, "nora", "sam"):
        room._last_answers["nora"] -= 60
        assert is_refused(room, "nora")
        room._last_answers["sam"] -= 60
        assert is_refused(room, "rita")
    assert time.monotonic() - began < 30


def test_however_many_are_answered_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 3600)
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.05)
    room = Places(1, 1, "busy")
    with seated(room, "nora"):
        assert is_refused(room, "nora")


def test_an_answer_is_a_reason_to_wait() -> None:
    room = Places(1, 1, "busy")
    with room.take("nora") as place:
        room._last_answers["nora"] = 0.0
        place.answered()
        assert room._last_answers["nora"] > 0.0
    place.answered()
    assert not room._last_answers


def test_a_thread_has_one_place_and_gives_it_back_once() -> None:
    room = Places(1, 1, "busy")
    first, second = room.take("nora"), room.take("nora")
    assert len(room._seats) == 1
    for _ in range(2):
        first.give_back()
        assert len(room._seats) == 1
    del second  # which nobody gave back
    gc.collect()
    assert not room._seats


# ---- The archives of a gateway.


class Gate:
    """An archive that hangs when it is asked for what `holds` says."""

    def __init__(self, archive: Any) -> None:
        self._archive = archive
        self._opened = threading.Event()
        self.holds: Callable[[str], bool] = lambda _: False

    def __call__(self, environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if self.holds(path):
            self._opened.wait(120)
        return (Response("{}") if path == "/system" else self._archive)(environ, start_response)

    def open(self) -> None:
        self.holds = lambda _: False
        self._opened.set()


@pytest.fixture
def gated(
    sqlite_catalog: Catalog, make_world: Callable[..., World], tmp_path: Path
) -> Iterator[tuple[World, Gate]]:
    gate = Gate(create_archive(tmp_path / "archive"))
    with running(gate) as url:
        archive = SampleArchive("gated", ArchiveSettings(archive_url=f"{url}/dicom-web")).fill()
        yield (
            make_world(
                sqlite_catalog,
                archive,
                gateway_threads=THREADS,
                archive_timeout_seconds=60,
                **explorer_settings(url),
            ),
            gate,
        )


def room_of(world: World) -> Places:
    found = world.app.extensions["gateway"].upstream._places
    assert isinstance(found, Places)
    return found


@contextmanager
def held(gate: Gate, holds: Callable[[str], bool]) -> Iterator[ThreadPoolExecutor]:
    """The gateway's threads, while the archive hangs; it goes on when the block ends, however that does."""
    with ThreadPoolExecutor(THREADS) as threads:
        gate.holds = holds
        try:
            yield threads
        finally:
            gate.open()


def status(world: World, path: str, token: str) -> int:
    with world.get(path, token) as answer:
        return answer.status_code


def healthz(world: World) -> int:
    with world.app.test_client().get("/healthz") as answer:
        return answer.status_code


@pytest.mark.parametrize(
    "path", [THUMBNAIL, f"/studies/{MINE.study}/thumbnail", MINE.path(), f"/studies/{MINE.study}/series"]
)
def test_an_archive_that_hangs_leaves_threads_to_others_and_takes_none_for_ever(
    gated: tuple[World, Gate], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "WAIT_SECONDS", 60)
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.5)
    world, gate = gated
    nora, sam = world.issuer.token(), world.sam
    with held(gate, lambda _: True) as threads:
        asked = [threads.submit(status, world, path, nora) for _ in range(3 * THREADS)]
        others: list[Future[int]] = [threads.submit(status, world, "/studies", sam)]
        others.append(threads.submit(healthz, world))
        assert [each.result(40) for each in others] == [200, 200]
        assert len(room_of(world)._seats) == OF_ONE
        gate.open()
        answered = [each.result(60) for each in asked]
    assert set(answered) == {200, 503}
    assert answered.count(503) >= THREADS
    assert not room_of(world)._seats
    assert status(world, path, nora) == 200


def test_what_hangs_for_one_keeps_nobody_from_another_study(gated: tuple[World, Gate]) -> None:
    world, gate = gated
    nora, sam = world.issuer.token(), world.sam
    door = Door(world)

    def administer() -> int:
        with door.ask("/system") as answer:
            return answer.status_code

    with held(gate, lambda path: MINE.study in path or path == "/system") as threads:
        for ask in (lambda: status(world, THUMBNAIL, nora), administer):
            asked = [threads.submit(ask) for _ in range(THREADS)]
            wait_until(lambda: len(room_of(world)._seats) == OF_ONE)
            for path in (f"/studies/{THEIRS.study}/series", f"/studies/{THEIRS.study}/metadata"):
                assert status(world, path, sam) == 200
            hanging = gate.holds
            gate.open()
            assert {each.result(60) for each in asked} <= {200, 503}
            assert not room_of(world)._seats
            gate._opened.clear()
            gate.holds = hanging


# ---- Whatever becomes of an answer, its place is given back.

LISTED = (
    '[{"0020000E":{"vr":"UI","Value":["%s"]},"00080018":{"vr":"UI","Value":["%s"]},"00280010":{"Value":[8]}}]'
)
DICOM_JSON = "application/dicom+json"
PARTS = "multipart/related; boundary=b"
ODD: dict[str, Callable[[], Response]] = {
    "none": lambda: Response("", 404),
    "refused": lambda: Response("", 406),
    "failed": lambda: Response("", 500),
    "busy": lambda: Response("", 503),
    "listed": lambda: Response(LISTED % (MINE.series(), MINE.instance()), content_type=DICOM_JSON),
    "garbage": lambda: Response("[1]", content_type=DICOM_JSON),
    "number": lambda: Response(f'[{{"00280010":{{"Value":["{"9" * 5000}"]}}}}]', content_type=DICOM_JSON),
    "cut": lambda: Response(iter(["[{"]), headers={"Content-Type": DICOM_JSON, "Content-Length": "999"}),
    "parts": lambda: Response("--b\r\n\r\nx\r\n--b--", content_type=PARTS),
    "half a part": lambda: Response("--b\r\n\r\nx", content_type=PARTS),
    "no parts": lambda: Response("x", content_type=PARTS),
    "picture": lambda: Response("x", content_type="image/jpeg"),
    "page": lambda: Response("x", content_type="text/html"),
    "administered": lambda: Response("x", 401),
}
ASKED: list[tuple[str, str]] = [
    ("/dicom-web" + path, accept)
    for path, accept in [
        (f"/studies/{MINE.study}/series", ""),
        (f"/studies/{MINE.study}/instances?limit=1", ""),
        (f"/studies/{MINE.study}/metadata", ""),
        (f"/studies/{MINE.study}", ""),
        (f"/studies/{MINE.study}/thumbnail", ""),
        (f"/studies/{MINE.study}/series/{MINE.series()}/rendered", ""),
        (THUMBNAIL, ""),
        (MINE.path(), "application/dicom"),
        (f"{MINE.path()}/frames/1", "image/jpeg, image/jls"),
        (f"{DOCUMENT.path()}/bulk/00420011", "application/pdf"),
        ("/studies/1.2.3/metadata", ""),  # which only the archive may know
    ]
] + [("/orthanc/system", "")]


@pytest.fixture
def odd(
    sqlite_catalog: Catalog, make_world: Callable[..., World], request: pytest.FixtureRequest
) -> Iterator[World]:
    said = request.getfixturevalue("embedded_archive").said

    def archive(environ: Any, start_response: Any) -> Any:
        return ODD[request.param]()(environ, start_response)

    with running(archive) as url:
        settings = ArchiveSettings(archive_url=f"{url}/dicom-web")
        yield make_world(sqlite_catalog, SampleArchive("odd", settings, said), **explorer_settings(url))


class HeaderRefusedError(Exception):
    """As gunicorn raises of a header that it does not send."""


def call(world: World, method: str, path: str, accept: str, end: str) -> Any:
    """Ask as a server does; gives what it would iterate over, closed."""
    bearer = world.issuer.token("rita", groups=[], roles=["pacs-admin"])
    headers = {"Authorization": f"Bearer {bearer}"} | ({"Accept": accept} if accept else {})
    environ = EnvironBuilder(path, method=method, headers=headers).get_environ()

    def start_response(*_: Any) -> Any:
        if end == "headers refused":
            raise HeaderRefusedError

    try:
        body = world.app(environ, start_response)
    except HeaderRefusedError:
        return None
    try:
        if end == "read":
            for _ in body:
                pass
    except (HTTPError, ValueError):
        pass  # the archive broke off
    finally:
        with suppress(AttributeError):  # of a list: it has nothing to close
            body.close()
    return body


@pytest.mark.parametrize("odd", ODD, indirect=True)
@pytest.mark.parametrize("end", ["read", "gone", "headers refused"])
def test_no_answer_keeps_its_place(odd: World, end: str) -> None:
    kept = []  # as garbage it gives its place back in any case
    for method in ("GET", "HEAD"):
        for path, accept in ASKED:
            kept.append(call(odd, method, path, accept, end))
            assert not room_of(odd)._seats, (method, path)


def test_an_archive_that_is_not_there_keeps_no_place(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    nowhere = "http://127.0.0.1:9"
    settings = ArchiveSettings(archive_url=f"{nowhere}/dicom-web")
    gone = SampleArchive("gone", settings, embedded_archive.said)
    world = make_world(sqlite_catalog, gone, **explorer_settings(nowhere))
    for path, accept in ASKED:
        call(world, "GET", path, accept, "read")
        assert not room_of(world)._seats
