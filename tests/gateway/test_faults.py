"""Whatever is down or odd: the door stays shut, and the answer says what it is."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from urllib3.exceptions import HTTPError
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from gateway.archive.upstream import archive_places
from gateway.explorer.archive import AdministeredArchive, Question
from gateway.explorer.paths import ArchivePath
from gateway.problems import Unavailable
from gateway.settings import GatewaySettings
from pacs.settings import ArchiveSettings
from support.gateway import MINE, THEIRS, SampleArchive, World, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs.catalog import Catalog

METADATA = f"/studies/{MINE.study}/metadata"
FRAME = f"{MINE.path()}/frames/1"


def is_problem(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = json.loads(answer.data)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["detail"].endswith(".")


PROBLEMS: list[tuple[str, dict[str, str], str, int]] = [
    ("/studies?limit=x", {}, "GET", 400),
    ("/studies/x", {}, "GET", 400),
    ("/studies", {"Accept": '"'}, "GET", 400),
    ("/nothing", {}, "GET", 404),
    ("/", {}, "GET", 404),
    ("", {}, "GET", 404),
    (f"/studies/{THEIRS.study}", {}, "GET", 404),
    ("/studies", {}, "POST", 405),
    (f"/studies/{MINE.study}", {}, "DELETE", 405),
    ("/studies", {"Accept": "text/html"}, "GET", 406),
    ("/studies?PatientName=" + "x" * 5000, {}, "GET", 414),
    ("/studies/" + "1." * 3000, {}, "GET", 414),
]


@pytest.mark.parametrize(("path", "headers", "method", "status"), PROBLEMS)
def test_errors_are_problem_details(
    path: str, headers: dict[str, str], method: str, status: int, still_world: World
) -> None:
    answer = still_world.get(path, method=method, **headers)
    is_problem(answer, status)
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if status == 405:
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_options_tells_the_methods_and_needs_no_token(still_world: World) -> None:
    answer = still_world.get("/studies", "", "OPTIONS")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


def test_every_answer_forbids_keeping_and_sniffing(still_world: World) -> None:
    for path in ("/studies", METADATA, FRAME, f"{MINE.path()}/rendered", "/studies?limit=x"):
        headers = still_world.get(path).headers
        assert headers["Cache-Control"] == "private, no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert "Set-Cookie" not in headers


def test_operations_are_never_under_dicom_web(still_world: World) -> None:
    client = still_world.app.test_client()
    assert still_world.get("/studies").status_code == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
        is_problem(still_world.get(path), 404)
    is_problem(client.get("/studies"), 404)
    metrics = client.get("/metrics").text
    for name in (
        'gateway_requests_total{route="search-studies",status="200"}',
        'gateway_request_seconds_bucket{le="0.005",route="search-studies"}',
        'gateway_denied_total{reason="not-yours"}',
        "gateway_jwks_age_seconds ",
    ):
        assert name in metrics


@contextmanager
def catalog_down(world: World) -> Iterator[None]:
    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    event.listen(world.catalog._engine, "before_cursor_execute", refuse)
    world.catalog._reading.ask = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        event.remove(world.catalog._engine, "before_cursor_execute", refuse)
        del world.catalog._reading.ask


def test_without_the_catalog_nothing_is_shown(world: World) -> None:
    token = world.issuer.token()
    paths = ("/studies", METADATA, FRAME, f"/studies/{THEIRS.study}/metadata")
    # What they have opened is on record, which is not asked about again for a while.
    for path in paths:
        assert [world.get(path, each).status_code for each in (token, world.rita)][1] == 200
    with catalog_down(world):
        for path in paths:
            for each in (token, world.rita):
                is_problem(world.get(path, each), 503)
        is_problem(world.app.test_client().get("/readyz"), 503)
        assert world.app.test_client().get("/healthz").status_code == 200
    assert world.get(FRAME, token).status_code == 200


def test_without_the_archive_lists_are_shown_and_images_are_503(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    gone = SampleArchive(
        "gone", ArchiveSettings(archive_url="http://127.0.0.1:9/dicom-web"), embedded_archive.said
    )
    world = make_world(sqlite_catalog, gone)
    assert len(world.uids()) == 3
    for path in (METADATA, FRAME, f"/studies/{MINE.study}/series", f"/studies/{MINE.study}/thumbnail"):
        is_problem(world.get(path), 503)
    is_problem(world.get(f"/studies/{THEIRS.study}/metadata"), 404)
    is_problem(world.get("/studies/1.2.3/metadata", world.rita), 503)


class OddArchive:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[], Response] = Response
        self.asked: list[Request] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.asked.append(Request(environ))
        return self.answer()(environ, start_response)


@pytest.fixture
def odd(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> Iterator[tuple[World, OddArchive]]:
    archive = OddArchive()
    with running(archive) as url:
        settings = ArchiveSettings(
            archive_url=f"{url}/dicom-web",
            archive_username="us",
            archive_password="secret",  # type: ignore[arg-type]
        )
        world = make_world(sqlite_catalog, SampleArchive("odd", settings, embedded_archive.said))
        world.set_study(MINE, settled=True)  # until then sizes are looked up each time
        yield world, archive


ODD: list[tuple[Callable[[], Response], int]] = [
    (lambda: Response("x", 500), 502),
    (lambda: Response("x", 501), 502),
    (lambda: Response("x", 503), 503),
    (lambda: Response("x", 429), 503),
    (lambda: Response("x", 401), 502),
    (lambda: Response("x", 403), 502),
    (lambda: Response("x", 404), 404),
    (lambda: Response("x", 206), 502),
    (lambda: Response("", 204), 502),
    (lambda: Response("", 302, {"Location": "http://127.0.0.1:9/"}), 502),
    (lambda: Response("<html>", 200, content_type="text/html"), 502),
    (lambda: Response("x", 200, content_type="multipart/related"), 502),
    (lambda: Response("x", 200, headers={"Content-Type": ""}), 502),
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_what_the_archive_should_not_say_is_not_passed_on(number: int, odd: tuple[World, OddArchive]) -> None:
    world, archive = odd
    archive.answer, status = ODD[number]
    for path in (METADATA, FRAME):
        is_problem(world.get(path), status)


def test_a_search_that_is_answered_with_garbage_is_a_bad_gateway(odd: tuple[World, OddArchive]) -> None:
    world, archive = odd
    for body in ("<html>", "{}", "[1]"):
        archive.answer = lambda body=body: Response(body, content_type="application/dicom+json")  # type: ignore[misc]
        is_problem(world.get(f"/studies/{MINE.study}/series"), 502)
        is_problem(world.get(f"/studies/{MINE.study}/thumbnail"), 502)


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/pdf", "video/mp4", ""])
def test_a_picture_that_is_none_is_a_bad_gateway(kind: str, odd: tuple[World, OddArchive]) -> None:
    world, archive = odd

    def answer() -> Response:
        if archive.asked[-1].path.endswith("/instances"):
            return Response("[]", content_type="application/dicom+json")
        return Response("<script>", content_type=kind)

    archive.answer = answer
    for tail in ("/rendered", "/thumbnail"):
        is_problem(world.get(f"{MINE.path()}{tail}"), 502)
    assert len(archive.asked) == 3


def listing(number: int) -> Callable[[], Response]:
    """An archive's list of `number` series, sent bit by bit; it heeds no limit."""
    one = json.dumps(
        {"0020000E": {"vr": "UI", "Value": ["1.3"]}, "0008103E": {"vr": "LO", "Value": ["x" * 64]}}
    )
    pieces = ["[", *(f"{one}," for _ in range(number - 1)), one, "]"]
    return lambda: Response(iter(pieces), content_type="application/dicom+json")


@pytest.mark.parametrize(
    ("bound", "query", "asked", "told"),
    [
        ("RESULTS_MAX=5", "", "limit=6", (5, True)),
        ("RESULTS_MAX=5", "limit=9", "limit=6", (5, True)),
        ("RESULTS_MAX=5", "limit=5", "limit=5", (5, False)),
        ("RESULTS_MAX=5", "limit=3&offset=2", "offset=2&limit=3", (3, False)),
        ("RESULTS_MAX=20", "", "limit=21", (20, False)),
        ("BYTES_MAX=1000", "", "limit=10001", (2, True)),
        ("BYTES_MAX=1000", "limit=20", "limit=20", (2, True)),
        ("BYTES_MAX=10", "", "limit=10001", (1, True)),
    ],
)
def test_a_long_list_ends_at_a_bound_and_says_so(
    bound: str, query: str, asked: str, told: Any, request: pytest.FixtureRequest
) -> None:
    monkeypatch, odd = (request.getfixturevalue(name) for name in ("monkeypatch", "odd"))
    world, archive = odd
    archive.answer = listing(20)
    name, _, size = bound.partition("=")
    for module in ("gateway.qido.answer", "gateway.dicomweb"):
        monkeypatch.setattr(f"{module}.SEARCH_{name}", int(size), raising=False)
    answer = world.get(f"/studies/{MINE.study}/series?{query}")
    assert archive.asked[-1].query_string.decode() == asked
    found = len(answer.get_json(force=True)), "additional results" in answer.headers.get("Warning", "")
    assert found == told


JLS, STORED = 'multipart/related; type="image/jls"', 'multipart/related; type="application/octet-stream"'
MANY = ", ".join(f"{JLS}; transfer-syntax=1.2.{number}" for number in range(9))


@pytest.mark.parametrize(
    ("accept", "statuses", "status", "asked"),
    [
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {}, 200, ["image/jls"]),
        (f"{JLS}, {STORED}; transfer-syntax=*", {"image/jls": 500}, 200, ["octet-stream"]),
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {"image/jls": 406}, 200,
         ["image/jls", "?", "octet-stream"]),
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {"image/jls": 400}, 200,
         ["image/jls", "?", "octet-stream"]),
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {"image/jls": 500}, 200,
         ["image/jls", "?", "octet-stream"]),
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {"image/jls": 503}, 503, ["image/jls"]),
        (f"{JLS}, {STORED}; transfer-syntax=*; q=0.5", {"image/jls": 404}, 404, ["image/jls"]),
        (f"{STORED}; transfer-syntax=*, {JLS}", {"octet-stream": 500}, 502, ["octet-stream", "?"]),
        (f"{JLS}, */*; q=0.5", {"image/jls": 500, "?": 500}, 502, ["?"]),
        (MANY, {"image/jls": 500}, 406, ["image/jls", "?"] * 4),
    ],
)  # fmt: skip
def test_the_next_form_is_asked_for_when_the_archive_cannot_make_one(
    accept: str, statuses: dict[str, int], status: int, asked: list[str], odd: tuple[World, OddArchive]
) -> None:
    world, archive = odd
    shape = {"0020000E": [MINE.series()], "00280010": [8], "00280011": [8], "00280008": ["1"]}
    listed = json.dumps([{tag: {"vr": "UN", "Value": value} for tag, value in shape.items()}])
    told: list[str] = []

    def answer() -> Response:
        of = archive.asked[-1]
        wanted = of.headers["Accept"]
        said = (
            "?" if of.query_string else next(each for each in ("image/jls", "octet-stream") if each in wanted)
        )
        told.append(said)
        if said in statuses:
            return Response("x", statuses[said])
        if said == "?":
            return Response(listed, content_type="application/dicom+json")
        return Response("--b--", content_type=f'multipart/related; type="{said}"; boundary=b')

    archive.answer = answer
    # A size is asked about once, before the first form that is decoded.
    world.get(FRAME, Accept=JLS)
    told.clear()
    assert world.get(FRAME, Accept=accept).status_code == status
    assert told == asked


def test_a_limit_of_none_is_answered_without_the_archive(odd: tuple[World, OddArchive]) -> None:
    world, archive = odd
    archive.answer = listing(1)
    for tail in ("/series", "/instances"):
        answer = world.get(f"/studies/{MINE.study}{tail}?limit=0")
        assert (answer.get_json(force=True), archive.asked) == ([], [])
        is_problem(world.get(f"/studies/{THEIRS.study}{tail}?limit=0"), 404)
    assert world.uids("limit=0") == []


def test_a_list_that_breaks_off_is_not_half_a_list(odd: tuple[World, OddArchive]) -> None:
    world, archive = odd
    archive.answer = lambda: Response(iter(['[{"0020000E":']), headers={"Content-Length": "1000"})
    is_problem(world.get(f"/studies/{MINE.study}/series"), 503)


def test_nothing_of_the_client_and_its_headers_reaches_the_archive(odd: tuple[World, OddArchive]) -> None:
    world, archive = odd
    archive.answer = lambda: Response(
        "--b\r\n\r\nx\r\n--b--",
        headers={
            "Content-Type": 'multipart/related; type="image/jls; x=y"; boundary=b',
            "Set-Cookie": "a=b",
            "Server": "the archive",
            "Cache-Control": "public",
            "Access-Control-Allow-Origin": "*",
            "X-Secret": "1",
            "Location": "http://archive.internal",
        },
    )
    answer = world.get(
        f"{FRAME}?x=1&_method=DELETE",
        Accept="multipart/related; type=image/jls; transfer-syntax=*; q=0.4; evil=1",
        X_HTTP_Method_Override="DELETE",
        Cookie="c=d",
        Range="bytes=0-1",
        Forwarded="host=attacker.example",
        X_Forwarded_Host="attacker.example",
    )
    assert answer.data == b"--b\r\n\r\nx\r\n--b--"
    assert answer.content_type == 'multipart/related; type="image/jls"; boundary=b'
    assert set(answer.headers.keys()) == {
        "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options",
        "Content-Security-Policy", "Referrer-Policy",
    }  # fmt: skip
    (asked,) = archive.asked
    assert (asked.method, asked.path, asked.query_string) == ("GET", f"/dicom-web{FRAME}", b"")
    sent = dict(asked.headers)
    sent.pop("Host")
    assert sent == {
        "Accept": 'multipart/related; type="image/jls"; transfer-syntax=*',
        "Accept-Encoding": "identity",
        "User-Agent": "clinicpacs",
        "Authorization": "Basic dXM6c2VjcmV0",
        "Forwarded": "host=pacs.example.org;proto=https",
        "X-Forwarded-Host": "pacs.example.org",
        "X-Forwarded-Proto": "https",
    }


@pytest.mark.parametrize(
    "path",
    [
        "/studies/..\\..\\statistics",
        "/studies/1.2\\1.3/series",
        "/studies/1.2,1.3",
        "/studies/../system",
        "/studies/1.2/series/..\\../metadata",
        "/studies/1.2/series/1.3/instances/../../../../system/metadata",
        "/studies/1.2/series/1.3/instances/1.4/frames/1\\..",
        "/studies/1.2/series/1.3/instances/1.4/bulk/..\\..",
        "/studies/1.2?",
    ],
)
def test_who_sees_all_still_asks_the_archive_for_nothing_but_studies(
    path: str, odd: tuple[World, OddArchive]
) -> None:
    world, archive = odd
    archive.answer = lambda: Response(
        '[{"0020000E":{"Value":["1.3"]}}]', content_type="application/dicom+json"
    )
    answer = world.get(path, world.rita)
    if path.endswith("?"):
        assert [each.path for each in archive.asked] == [
            "/dicom-web/studies/1.2/series",
            "/dicom-web/studies/1.2",
        ]
        return
    assert answer.status_code in {400, 404}
    assert archive.asked == []


def raw_server(*connections: bytes | tuple[bytes, ...]) -> tuple[str, threading.Thread]:
    """Takes one connection after the other, answers each (each of its requests, if several) and cuts it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for answers in connections:
                connection, _ = listener.accept()
                with connection:
                    for answer in (answers,) if isinstance(answers, bytes) else answers:
                        connection.recv(65536)
                        connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web", thread


HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; type="application/dicom"; boundary=b\r\n'


def test_an_answer_that_is_cut_off_is_never_taken_for_a_whole_one(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    url, thread = raw_server(
        HEAD + b"Content-Length: 1000\r\n\r\n--b\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    )
    settings = ArchiveSettings(archive_url=url)
    world = make_world(sqlite_catalog, SampleArchive("cut", settings, embedded_archive.said))
    for _ in range(2):
        with pytest.raises(HTTPError):
            assert world.get(MINE.path()).data
    thread.join(10)


def test_a_kept_connection_that_the_archive_has_closed_is_replaced(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    body = HEAD + b"Content-Length: 15\r\n\r\n--b\r\n\r\nx\r\n--b--"
    # At the moment when it is used again: what was closed before is not even tried.
    url, thread = raw_server((body, b""), body)
    settings = ArchiveSettings(archive_url=url)
    world = make_world(sqlite_catalog, SampleArchive("keep", settings, embedded_archive.said))
    for _ in range(2):
        assert world.get(MINE.path()).status_code == 200
    thread.join(10)


def test_a_change_of_the_archive_is_never_sent_twice() -> None:
    url, thread = raw_server(b"", b"HTTP/1.1 204 No Content\r\n\r\n")
    given: dict[str, Any] = {"oidc_issuer": "https://issuer.example", "orthanc_url": url}
    archive = AdministeredArchive(GatewaySettings(**given), archive_places(1))
    instance = ArchivePath.parse("instances/1")
    with pytest.raises(Unavailable):
        archive.ask(Question("DELETE", instance, "", Headers()))
    assert archive.ask(Question("GET", instance, "", Headers())).status == 204
    archive.close()
    thread.join(10)


def test_a_fault_of_ours_is_a_problem_without_a_word_of_it(world: World) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("Sample^Aurora")

    world.app.extensions["gateway"].upstream.open = fail
    answer = world.get(FRAME)
    is_problem(answer, 500)
    assert "Aurora" not in answer.text
