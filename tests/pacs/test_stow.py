"""STOW-RS: what goes over the wire, and which answers are answers about the files."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pacs.archive import (
    ArchiveUnavailableError,
    FileRange,
    Part,
    RequestTooLargeError,
    SourceChangedError,
)
from pacs.archive.stow import StowClient
from support.gateway import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NOTHING = b'{"00081198": {"vr": "SQ"}}'
STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}


class Server(ThreadingHTTPServer):
    """Answers every POST with `answer`, and keeps what it was sent."""

    daemon_threads = True
    answer: tuple[int, dict[str, str], bytes] = (200, {"Content-Type": "application/dicom+json"}, NOTHING)
    interim: int | None = None
    received: list[tuple[dict[str, str], bytes]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.received.append(
            ({k.title(): v for k, v in self.headers.items()}, self.rfile.read(length))
        )
        status, headers, body = self.server.answer
        if self.server.interim:
            self.send_response_only(self.server.interim)
            self.end_headers()
            self.wfile.flush()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.received = []
    with served(server):
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[StowClient]:
    client = StowClient(
        f"http://127.0.0.1:{server.server_port}/dicom-web", username="importer", password="geheim", timeout=10
    )
    yield client
    client.close()


def part(content: bytes) -> Part:
    return Part([content], len(content))


def sop(uid: str, **more: object) -> dict[str, object]:
    return {"00081155": {"vr": "UI", "Value": [uid]}, **more}


def test_the_body_is_the_pieces_in_order_byte_for_byte(
    server: Server, client: StowClient, tmp_path: Path
) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(os.urandom(1 << 20))
    fd = os.open(path, os.O_RDONLY)
    client.store([Part([b"head", FileRange(fd, 100, 700_000), b"tail"], 700_008), part(b"second")])
    os.close(fd)
    headers, body = server.received[0]
    boundary = headers["Content-Type"].rpartition("boundary=")[2].encode()
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert headers["Authorization"].startswith("Basic ")
    assert "Transfer-Encoding" not in headers
    parts = body.split(b"\r\n--" + boundary)
    assert [each.partition(b"\r\n\r\n")[2] for each in parts[1:3]] == [
        b"head" + path.read_bytes()[100:700_100] + b"tail",
        b"second",
    ]
    assert parts[3] == b"--\r\n"


def test_stored_and_failed_instances_are_told_apart(server: Server, client: StowClient) -> None:
    reason = {"00081197": {"vr": "US", "Value": [0xA700]}}
    answer = {
        "00081199": {"vr": "SQ", "Value": [sop("1.1"), sop("1.2"), sop("not a uid"), "nonsense"]},
        "00081198": {"vr": "SQ", "Value": [sop("1.2", **reason), sop("1.3")]},
    }
    server.answer = (
        202,
        {"Content-Type": "application/dicom+json; charset=utf-8"},
        json.dumps(answer).encode(),
    )
    told = client.store([part(b"x")])
    assert told.status == 202
    assert told.stored == {"1.1"}
    assert told.failures == {"1.2": 0xA700, "1.3": None}


@pytest.mark.parametrize("status", [200, 202, 400, 409])
def test_an_answer_about_the_files(server: Server, client: StowClient, status: int) -> None:
    body = b'{"00081198": {"vr": "SQ"}}'
    server.answer = (status, {"Content-Type": "application/dicom+json"}, body)
    assert client.store([part(b"x")]).stored == frozenset()


def test_what_the_archive_cannot_name_and_what_it_changed_is_told(server: Server, client: StowClient) -> None:
    """PS3.18 section 10.5.3: OtherFailuresSequence, and a WarningReason beside what is stored."""
    stored = {"00081155": {"vr": "UI", "Value": ["1.2"]}, "00081196": {"vr": "US", "Value": [0xB006]}}
    plain = {"00081155": {"vr": "UI", "Value": ["1.3"]}}
    reasons = [{"00081197": {"vr": "US", "Value": [0xC000]}}, {}]
    headers = {"Content-Type": "application/dicom+json"}
    told: dict[str, object] = {"0008119A": {"vr": "SQ", "Value": reasons}}
    server.answer = (409, headers, json.dumps(told).encode())
    answer = client.store([Part((b"x",), 1)])
    assert (answer.stored, answer.failures, answer.other_failures) == (frozenset(), {}, (0xC000, None))
    told["00081199"] = {"vr": "SQ", "Value": [stored, plain]}
    server.answer = (202, headers, json.dumps(told).encode())
    answer = client.store([Part((b"x",), 1)])
    assert (answer.stored, answer.warnings) == ({"1.2", "1.3"}, {"1.2": 0xB006})


@pytest.mark.parametrize(
    "types", [{}, {"Content-Type": "application/dicom+json", "content-type": "text/plain"}]
)
def test_orthanc_names_no_media_type_with_a_refusal_or_two(
    server: Server, client: StowClient, types: dict[str, str]
) -> None:
    server.answer = (400, types, b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}')
    assert client.store([part(b"x")]).status == 400


@pytest.mark.parametrize("status", [102, 103])
def test_what_follows_an_interim_answer_is_not_taken_for_the_next_one(
    server: Server, client: StowClient, status: int
) -> None:
    server.answer = (200, {"Content-Type": "application/dicom+json"}, json.dumps(STORED).encode())
    server.interim = status
    with pytest.raises(ArchiveUnavailableError, match=f"status-{status}"):
        client.store([part(b"x")])
    server.answer, server.interim = Server.answer, None
    assert client.store([part(b"y")]).stored == frozenset()


@pytest.mark.parametrize(
    ("status", "content_type", "body", "reason"),
    [
        (401, "application/dicom+json", b"{}", "status-401"),
        (403, "application/dicom+json", b"{}", "status-403"),
        (404, "application/dicom+json", b"{}", "status-404"),
        (500, "application/dicom+json", b"{}", "status-500"),
        (503, "text/html", b"busy", "status-503"),
        (200, "text/html", b"<p>a captive portal</p>", "not-dicom-json"),
        (200, "application/dicom+json", b"{ cut", "not-dicom-json"),
        (200, "application/dicom+json", b"[]", "not-dicom-json"),
        (200, "application/dicom+json", b"{}", "not-dicom-json"),
        (200, "application/dicom+json", b'{"error": {}}', "not-dicom-json"),
        (200, "application/dicom+json", b'{"00081199": []}', "not-dicom-json"),
        (200, "application/dicom+json", b"[" * 100_000, "not-dicom-json"),
        (400, "text/plain", b"Bad Request", "not-dicom-json"),
        (400, "application/json", b"{}", "not-dicom-json"),
    ],
)
def test_every_other_answer_says_nothing_about_the_files(  # noqa: PLR0917
    server: Server, client: StowClient, status: int, content_type: str, body: bytes, reason: str
) -> None:
    server.answer = (status, {"Content-Type": content_type}, body)
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([part(b"x")])
    assert caught.value.reason == reason


def test_too_large_a_request_is_told_apart(server: Server, client: StowClient) -> None:
    server.answer = (413, {}, b"")
    with pytest.raises(RequestTooLargeError):
        client.store([part(b"x")])


def test_a_redirect_is_not_followed(server: Server, client: StowClient) -> None:
    server.answer = (307, {"Location": f"http://127.0.0.1:{server.server_port}/elsewhere"}, b"")
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([part(b"x")])
    assert caught.value.reason == "redirect"
    assert len(server.received) == 1


class Endless(BaseHTTPRequestHandler):
    """Answers without end: `pause` seconds before each piece."""

    protocol_version = "HTTP/1.1"
    pause = 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        try:
            while not self.server.stopping.wait(self.pause):  # type: ignore[attr-defined]
                self.wfile.write(b" " * (1 if self.pause else 1 << 20))
        except OSError:
            self.close_connection = True

    def log_message(self, *_args: object) -> None:
        pass


@pytest.mark.parametrize(("pause", "reason"), [(0.05, "timeout"), (0.0, "not-dicom-json")])
def test_an_answer_that_never_ends_is_given_up(pause: float, reason: str) -> None:
    handler = type("Handler", (Endless,), {"pause": pause})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.stopping = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = StowClient(f"http://127.0.0.1:{server.server_port}/dicom-web", timeout=0.5 if pause else 20)
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([part(b"x")])
    assert caught.value.reason == reason
    server.stopping.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_nobody_listening_is_unreachable() -> None:
    client = StowClient("http://127.0.0.1:1/dicom-web", timeout=2)
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([part(b"x")])
    assert caught.value.reason == "unreachable"


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_request_off(
    server: Server, client: StowClient, tmp_path: Path
) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"1234")
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(SourceChangedError):
        client.store([Part([FileRange(fd, 0, 10)], 10)])
    os.close(fd)
    server.answer = (200, {"Content-Type": "application/dicom+json"}, NOTHING)
    client.store([part(b"the next request is a whole one")])
    # The server may notice the one that was broken off before or after it.
    assert any(b"the next request is a whole one" in body for _, body in server.received)
