"""/orthanc: who may use the archive's own REST API, on whose record, and what of a request reaches it."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import event, text

from gateway.explorer.paths import ArchivePath, parse_query
from gateway.problems import BadRequest, NotFound
from pacs.catalog.schema import revocations
from support.corpus import instance_bytes, sample_uid
from support.explorer import (
    ADMIN,
    SESSION,
    Door,
    Seen,
    explorer_settings,
    recording_archive,
    unfiltered_orthanc,
)
from support.gateway import PUBLIC, World, running, served
from support.orthanc import require_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs.catalog import Catalog
    from support.gateway import SampleArchive
    from support.orthanc import Orthanc


@pytest.fixture
def make_door(
    sqlite_catalog: Catalog, embedded_archive: SampleArchive, make_world: Callable[..., World]
) -> Callable[..., Door]:
    def make(url: str, **settings: Any) -> Door:
        return Door(make_world(sqlite_catalog, embedded_archive, **explorer_settings(url, **settings)))

    return make


@pytest.fixture
def door(make_door: Callable[..., Door], orthanc: Orthanc) -> Door:
    """To the real Orthanc as production configures it."""
    return make_door(orthanc.url)


@pytest.fixture(scope="session")
def permissive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require_installed()
    with unfiltered_orthanc(tmp_path_factory.mktemp("permissive")) as server:
        yield server


@pytest.fixture
def open_door(make_door: Callable[..., Door], permissive: Orthanc) -> Door:
    """To an Orthanc that refuses nothing by itself."""
    return make_door(permissive.url)


@pytest.fixture
def recorded(make_door: Callable[..., Door]) -> Iterator[tuple[Door, Seen]]:
    """To a server that only keeps what it is sent."""
    with recording_archive(lambda _: (200, {"Content-Type": "application/json"}, b"[]")) as (url, seen):
        yield make_door(url), seen


def test_only_administrators_come_in(door: Door) -> None:
    issuer = door.world.issuer
    for path in ("/system", "", "/", "/app/explorer.html", "/dicom-web/studies"):
        refused = door.ask(path, token="")
        assert refused.status_code == 401, path
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="clinicpacs"'
        assert door.ask(path, issuer.token("nora")).status_code == 403
        assert door.ask(path, issuer.token("rita", groups=[], roles=["radiologist"])).status_code == 403
    answer = door.ask("/system")
    assert (answer.status_code, answer.json["Name"]) == (200, "clinicpacs")
    assert door.ask("/dicom-web/studies").status_code == 200
    assert "administrator" in door.ask("/system", issuer.token("nora")).json["detail"]


@pytest.mark.parametrize(
    "claims",
    [
        {"azp": "grafana"},
        {"azp": ...},
        {"aud": "account"},
        {"typ": "ID"},
        {"exp": 1},
        {"iss": "https://example.org/auth/realms/clinicpacs"},
    ],
)
def test_tokens_are_judged_as_everywhere(door: Door, claims: dict[str, Any]) -> None:
    token = door.admin(**claims)
    assert door.ask("/system", token).status_code == 401
    cookie = {"Cookie": f"{SESSION}={door.sealed(token)}"}
    assert door.ask("/system", token="", headers=cookie).status_code == 401


def test_tokens_of_scripts_and_of_explorer_are_taken_here_only(door: Door) -> None:
    for client in ("orthanc-scripts", "orthanc-explorer", "ohif-viewer"):
        assert door.ask("/system", door.admin(azp=client)).status_code == 200
    for client in ("orthanc-scripts", "orthanc-explorer"):
        assert door.world.get("/studies", door.admin(azp=client)).status_code == 401


def test_a_revoked_token_is_refused_at_once(door: Door) -> None:
    token = door.admin()
    cookie = {"Cookie": f"{SESSION}={door.sealed(token)}"}
    assert door.ask("/system", token).status_code == 200
    assert door.ask("/system", token="", headers=cookie).status_code == 200
    later = door.world.clock.now() + timedelta(seconds=5)
    door.world.insert(revocations, subject="subject-of-ada", issued_before=later)
    assert door.ask("/system", token).status_code == 401
    assert door.ask("/system", token="", headers=cookie).status_code == 401


def test_the_cookie_ends_with_its_token(door: Door) -> None:
    cookie = {"Cookie": f"{SESSION}={door.sealed(door.admin())}"}
    assert door.ask("/system", token="", headers=cookie).status_code == 200
    door.world.clock.turn(301)
    assert door.ask("/system", token="", headers=cookie).status_code == 401


def test_a_cookie_that_is_not_ours_is_nobodys(door: Door) -> None:
    sealed = door.sealed(door.admin())
    for value in ("", "x", door.admin(), sealed[:-3] + "abc", sealed + "A", "..." * 2000):
        cookie = {"Cookie": f"{SESSION}={value}"}
        assert door.ask("/system", token="", headers=cookie).status_code == 401, value[:20]


def test_an_authorization_header_counts_alone(door: Door) -> None:
    cookie = {"Cookie": f"{SESSION}={door.sealed(door.admin())}"}
    assert door.ask("/system", "no-token", headers=cookie).status_code == 401
    assert door.ask("/system", door.world.issuer.token("nora"), headers=cookie).status_code == 403


def test_a_browser_changes_something_only_from_our_pages(recorded: tuple[Door, Seen]) -> None:
    door, seen = recorded
    for origin in (
        "",
        "null",
        "https://evil.example",
        f"{PUBLIC}.evil.example",
        PUBLIC.upper(),
        f"{PUBLIC}:444",
    ):
        headers = {"Origin": origin} if origin else {}
        for method in ("POST", "PUT", "DELETE"):
            assert door.by_cookie("/tools/lookup", method, **headers).status_code == 403, origin
    assert seen == []
    for method in ("POST", "PUT", "DELETE"):
        assert door.by_cookie("/tools/lookup", method, Origin=PUBLIC).status_code == 200
        assert door.ask("/tools/lookup", method=method).status_code == 200
    assert door.by_cookie("/system", "GET").status_code == 200


def test_without_a_secret_cookies_mean_nothing(make_door: Callable[..., Door], orthanc: Orthanc) -> None:
    door = make_door(orthanc.url, explorer_client_secret=SecretStr(""))
    headers = {"Cookie": f"{SESSION}={door.sealed(door.admin())}", "Accept": "text/html"}
    answer = door.ask("/system", token="", headers=headers)
    assert (answer.status_code, answer.mimetype) == (401, "text/html")
    assert door.ask("/callback").status_code == 404
    assert door.ask("/system").status_code == 200


def test_without_an_archive_there_is_nothing(world: World) -> None:
    admin = world.issuer.token("ada", **ADMIN)
    for path in ("/orthanc", "/orthanc/system"):
        answer = world.app.test_client().get(path, headers={"Authorization": f"Bearer {admin}"})
        assert answer.status_code == 404


# ---- The record.


def test_every_request_is_on_record(door: Door) -> None:
    door.ask("/system?x=Sample^Aurora")
    door.ask("/instances/none")
    door.ask("/system", door.world.issuer.token("nora"))
    door.ask("/tools/lookup", method="POST", data="x")
    door.ask("/x%0Ay")
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    door.ask("/system", headers=forwarded)
    assert door.rows() == [
        ("ada", "GET /system 200", True, "127.0.0.1"),
        ("ada", "GET /instances/none 404", True, "127.0.0.1"),
        ("nora", "GET /system 403", False, "127.0.0.1"),
        ("ada", "POST /tools/lookup", True, "127.0.0.1"),
        ("ada", "GET /x?y 404", False, "127.0.0.1"),
        ("ada", "GET /system 200", True, "127.0.0.1"),
    ]
    assert {row["at"] for row in door.world.audited()} == {door.world.clock.now()}


def test_what_a_physician_is_refused_again_and_again_is_added_up(recorded: tuple[Door, Seen]) -> None:
    door, seen = recorded
    nora, rita = (door.world.issuer.token(name) for name in ("nora", "rita"))

    def told() -> list[tuple[str, str, int]]:
        keys = ("username", "detail", "count")
        rows = [row for row in door.world.audited() if not row["allowed"]]
        return [tuple(row[key] for key in keys) for row in rows]  # type: ignore[misc]

    for path in ("/system", "/studies", "/x", "/system"):
        assert door.ask(path, nora).status_code == 403
    assert door.ask("/system", rita, method="DELETE").status_code == 403
    first = [("nora", "GET /system 403", 1), ("rita", "DELETE /system 403", 1)]
    assert told() == [*first, ("nora", "", 3)]
    door.world.clock.turn(61)
    assert door.ask("/studies", nora).status_code == 403
    assert told()[3:] == [("nora", "GET /studies 403", 1)]
    # An administrator's have a row each, as all that an administrator does.
    for _ in range(2):
        assert door.ask("/x%0Ay").status_code == 404
    assert told()[4:] == [("ada", "GET /x?y 404", 1)] * 2
    assert seen == []


def test_the_first_refusal_is_on_record_before_it_is_told(recorded: tuple[Door, Seen]) -> None:
    door, _ = recorded
    door.ask("/system", door.world.issuer.token("nora"))
    with door.world.catalog.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM audit")) == 1


def test_a_revoked_administrators_requests_are_added_up(recorded: tuple[Door, Seen]) -> None:
    door, _ = recorded
    token = door.admin()
    later = door.world.clock.now() + timedelta(seconds=5)
    door.world.insert(revocations, subject="subject-of-ada", issued_before=later)
    for _ in range(4):
        assert door.ask("/system", token).status_code == 401
    assert [row["count"] for row in door.world.audited()] == [1, 3]


def test_strangers_are_added_up(door: Door) -> None:
    for _ in range(3):
        door.ask("/system", token="")
    (row,) = door.world.audited()
    assert (row["action"], row["subject"], row["allowed"], row["count"]) == (
        "archive-request",
        "(nobody) 127.0.0.1",
        False,
        3,
    )


def test_a_change_is_on_record_before_the_archive_hears_of_it(make_door: Callable[..., Door]) -> None:
    doors: list[Door] = []
    before: list[list[Any]] = []

    def answer(_path: str) -> tuple[int, dict[str, str], bytes]:
        before.append(doors[0].rows())
        return 200, {}, b"[]"

    with recording_archive(answer) as (url, _):
        doors.append(make_door(url))
        doors[0].ask("/instances/x", method="DELETE")
    # It is asked of which study that is, too.
    assert before == [[("ada", "DELETE /instances/x", True, "127.0.0.1")]] * 2


def test_nothing_is_answered_that_is_not_on_record(recorded: tuple[Door, Seen]) -> None:
    door, seen = recorded
    door.ask("/system")

    def full(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO audit"):
            raise sqlite3.OperationalError("database or disk is full")

    engine = door.world.catalog._engine
    event.listen(engine, "before_cursor_execute", full)
    try:
        seen.clear()
        assert door.ask("/system").status_code == 503
        assert [each[0] for each in seen] == ["GET"]
        seen.clear()
        assert door.ask("/instances/x", method="DELETE").status_code == 503
        assert seen == []
    finally:
        event.remove(engine, "before_cursor_execute", full)
    assert door.ask("/system").status_code == 200


# ---- What reaches the archive, and what comes back.


def test_only_what_is_known_reaches_the_archive(recorded: tuple[Door, Seen]) -> None:
    door, seen = recorded
    headers = {
        "X-HTTP-Method-Override": "DELETE",
        "Cookie": "a=b",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example",
        "X-Real-IP": "192.0.2.1",
        "Accept-Encoding": "gzip",
        "Connection": "X-Thing",
        "X-Thing": "1",
        "Referer": "https://evil.example/",
        "Accept": "application/json",
        "Range": "bytes=0-1",
        "If-None-Match": '"1"',
    }
    door.ask("/system", headers=headers)
    method, path, sent, body = seen[0]
    assert (method, path, body) == ("GET", "/system", b"")
    assert set(sent) == {
        *("Accept", "Accept-Encoding", "authorization", "Forwarded", "Host", "If-None-Match", "Range"),
        *("User-Agent", "X-Forwarded-Host", "X-Forwarded-Proto"),
    }
    assert sent["authorization"].startswith("Basic ")
    assert "evil" not in json.dumps(sent)
    door.ask("/tools/find", method="POST", data=b'{"Level":"Study"}', content_type="application/json")
    method, path, sent, body = seen[1]
    assert (method, path, body) == ("POST", "/tools/find", b'{"Level":"Study"}')
    assert (sent["Content-Type"], sent["Content-Length"]) == ("application/json", "17")


@pytest.mark.parametrize(
    "name", ["_method", "_METHOD", "%5Fmethod", "+_method", "a=1&_method", "%20_method%20"]
)
def test_a_query_is_no_other_method(recorded: tuple[Door, Seen], name: str) -> None:
    door, seen = recorded
    assert door.ask(f"/instances/x?{name}=DELETE").status_code == 400
    assert seen == []


def test_no_override_deletes_anything_from_a_real_archive(open_door: Door) -> None:
    stored = open_door.ask("/instances", method="POST", data=sample("override")).json["ID"]
    for query in (
        "a=b;_method=DELETE",
        "a;_method=DELETE",
        "_method%00=DELETE",
        "_method%3DDELETE",
        "_method",
    ):
        open_door.ask(f"/instances/{stored}?{query}", headers={"X-HTTP-Method-Override": "DELETE"})
    assert open_door.ask(f"/instances/{stored}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/instances/..",
        "/a/../system",
        "/./system",
        "//system",
        "/instances//x",
        "/%2e%2e/system",
        "/..%2fsystem",
        "/instances%2fx",
        "/..%5csystem",
        "/a\\system",
        "/instances/%00",
        "/instances/x%0d%0aX-Y:z",
        "/instances/é",
        "/instances/x y",
        "/...",
        "/" + "a/" * 50,
        "/" + "a" * 300,
        "/a;b",
    ],
)
def test_smuggled_paths_reach_nothing(recorded: tuple[Door, Seen], path: str) -> None:
    door, seen = recorded
    with running(door.world.app) as url:
        request = requests.Request("GET", url, headers={"Authorization": f"Bearer {door.admin()}"}).prepare()
        request.url = f"{url}/orthanc{path}"
        with requests.Session() as session:
            session.trust_env = False
            assert session.send(request).status_code == 404
    assert seen == []


def test_what_is_too_long_is_a_414(recorded: tuple[Door, Seen]) -> None:
    door, seen = recorded
    assert door.ask(f"/system?a={'x' * 4096}").status_code == 414
    assert seen == []


def test_addresses_are_built_anew() -> None:
    assert [str(ArchivePath.parse(each)) for each in ("", "app/", "instances/a-b/frames/1", "x")] == [
        *("/", "/app/", "/instances/a-b/frames/1", "/x")
    ]
    assert parse_query("expand&since=0&limit=5&full") == "expand&since=0&limit=5&full"
    assert parse_query("a=%C3%A9&&b=x+y&type=A;B&c==%26") == "a=%C3%A9&b=x%20y&type=A;B&c=%3D%26"
    for bad in ("a=%ff", "a=%0a", "a=%00", "_method=x", "&".join("a" * 200)):
        with pytest.raises(BadRequest):
            parse_query(bad)
    for path in ("a//b", "a/..", ".", "a\\b", "a\n"):
        with pytest.raises(NotFound):
            ArchivePath.parse(path)


def test_the_start_leads_to_explorer(door: Door) -> None:
    for path in ("", "/"):
        answer = door.ask(path)
        assert answer.status_code == 301
        assert answer.headers["Location"] == "/orthanc/app/explorer.html"


def test_redirects_stay_below_orthanc(make_door: Callable[..., Door]) -> None:
    places = {
        "/a/b": ("../c?d=1", "/orthanc/c?d=1"),
        "/c": ("/instances/x", "/orthanc/instances/x"),
        "/d": (f"{PUBLIC}/instances/x", "/orthanc/instances/x"),
        "/e": ("https://evil.example/x", None),
        "/f": ("//evil.example/x", None),
        "/g": ("/a%5c..%5cb", None),
        "/h": ("javascript:alert(1)", None),
    }
    with recording_archive(lambda path: (302, {"Location": places[path][0]}, b"")) as (url, _):
        door = make_door(url)
        for path, (_, expected) in places.items():
            answer = door.ask(path)
            assert answer.status_code == (302 if expected else 502), path
            assert answer.headers.get("Location") == expected


def test_what_comes_back_is_kept_apart_from_our_origin(make_door: Callable[..., Door]) -> None:
    said = {
        "/instances/x/file": {"Content-Type": "text/html", "Set-Cookie": "a=b", "Server": "s", "X-Y": "z"},
        "/instances/x/pdf": {"Content-Type": "application/pdf"},
        "/app/explorer.html": {"Content-Type": "text/html"},
    }
    with recording_archive(lambda path: (200, said[path], b"<script>")) as (url, _):
        door = make_door(url)
        content = door.ask("/instances/x/file")
        assert content.headers["Content-Security-Policy"].endswith("; sandbox")
        assert not {"Set-Cookie", "Server", "X-Y"} & set(content.headers.keys())
        assert door.ask("/instances/x/pdf").headers["Content-Disposition"] == "attachment"
        page = door.ask("/app/explorer.html")
    policy = page.headers["Content-Security-Policy"]
    assert "sandbox" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    for answer in (content, page):
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_password_that_the_archive_does_not_know_is_no_question_to_the_browser(
    make_door: Callable[..., Door], orthanc: Orthanc
) -> None:
    answer = make_door(orthanc.url, orthanc_admin_password=SecretStr("wrong")).ask("/system")
    assert answer.status_code == 502
    assert "WWW-Authenticate" not in answer.headers


def test_an_archive_that_is_down_is_a_503_on_record(make_door: Callable[..., Door]) -> None:
    door = make_door("http://127.0.0.1:1")
    assert door.ask("/system").status_code == 503
    assert door.ask("/instances/x", method="DELETE").status_code == 503
    assert [row[1] for row in door.rows()] == ["GET /system 503", "DELETE /instances/x"]


def test_methods_and_head(door: Door) -> None:
    answer = door.ask("/system", method="HEAD")
    assert (answer.status_code, answer.data) == (200, b"")
    for method in ("PATCH", "OPTIONS", "TRACE"):
        refused = door.ask("/system", method=method)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, POST, PUT, DELETE")


def sample(name: str) -> bytes:
    return instance_bytes(
        "CT",
        study_uid=sample_uid("explorer", name),
        series_uid=sample_uid("explorer", name, "CT"),
        sop_instance_uid=sample_uid("explorer", name, "CT", 1),
    )


def test_a_script_stores_and_deletes_where_the_archive_lets_it(open_door: Door, door: Door) -> None:
    content = sample("upload")
    with running(open_door.world.app) as url:
        bearer = {"Authorization": f"Bearer {open_door.admin(azp='orthanc-scripts')}"}
        half = len(content) // 2
        # In chunks, whose number and length the gateway is not told.
        answer = requests.post(
            f"{url}/orthanc/instances",
            data=iter([content[:half], content[half:]]),
            headers=bearer,
            timeout=30,
        )
        assert answer.status_code in {200, 411}, answer.text
        answer = requests.post(f"{url}/orthanc/instances", data=content, headers=bearer, timeout=30)
        stored = answer.json()
        found = requests.get(f"{url}/orthanc/instances/{stored['ID']}/file", headers=bearer, timeout=30)
        assert found.content == content
        gone = requests.delete(f"{url}/orthanc/instances/{stored['ID']}", headers=bearer, timeout=30)
        assert gone.status_code == 200
    assert door.ask("/instances", method="POST", data=content).status_code == 403


def test_a_change_is_sent_over_a_connection_of_its_own(make_door: Callable[..., Door]) -> None:
    """Orthanc says that it keeps one, and closes it: what was sent meanwhile may have happened or not."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        is_used = False

        def do_POST(self) -> None:
            self.rfile.read(2)
            self.close_connection = self.is_used
            if not self.is_used:
                self.is_used = True
                self.send_response(200)
                self.send_header("Connection", "keep-alive")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with served(server):
        door = make_door(f"http://127.0.0.1:{server.server_address[1]}")
        for _ in range(2):
            assert door.ask("/tools/find", method="POST", data=b"{}").data == b"[]"


def test_an_upload_that_breaks_off_waits_for_nobody(recorded: tuple[Door, Seen]) -> None:
    door, _ = recorded
    # As gunicorn hands it over: the end of what came is the end of the stream.
    answer = door.ask(
        "/instances",
        method="POST",
        input_stream=io.BytesIO(b"abc"),
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": "1000"},
    )
    assert answer.status_code == 400


def test_a_body_is_streamed_and_never_held(make_door: Callable[..., Door]) -> None:
    """The archive has the first bytes while the script still holds the last ones back."""
    arrived, release = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(1 << 16)
            arrived.set()
            self.rfile.read((1 << 20) - (1 << 16))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True

    def slowly() -> Iterator[bytes]:
        yield b"x" * (1 << 19)
        assert release.wait(20)
        yield b"x" * (1 << 19)

    class Sized:
        """An iterator with a length: requests sends Content-Length."""

        def __init__(self) -> None:
            self.parts = slowly()

        def __len__(self) -> int:
            return 1 << 20

        def __iter__(self) -> Iterator[bytes]:
            return self.parts

    with served(server):
        door = make_door(f"http://127.0.0.1:{server.server_address[1]}")
        with running(door.world.app) as url:
            bearer = {"Authorization": f"Bearer {door.admin()}"}
            result: list[int] = []
            sender = threading.Thread(
                target=lambda: result.append(
                    requests.post(
                        f"{url}/orthanc/instances", data=Sized(), headers=bearer, timeout=30
                    ).status_code
                )
            )
            sender.start()
            assert arrived.wait(20)
            release.set()
            sender.join()
    assert result == [200]
