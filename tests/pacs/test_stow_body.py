"""STOW-RS bodies of every mixture of memory and files arrive byte for byte, whoever sends the files."""

from __future__ import annotations

import errno
import os
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pacs.archive import ArchiveUnavailableError, FileRange, Part, SourceChangedError
from pacs.archive.stow import StowClient
from support.gateway import served
from support.nginx import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZES = (0, 1, 500, (1 << 16) - 1, 1 << 16, 1 << 18, 700_000)
CONTENT = os.urandom(1 << 20)


class Server(ThreadingHTTPServer):
    """Keeps the bodies; `reads` only so many bytes of one if told so, and `thinks` before it answers."""

    daemon_threads = True
    reads: int | None = None
    thinks = 0.0
    bodies: list[bytes]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(self.rfile.read(self.server.reads or length))
        if self.server.reads:
            self.close_connection = True
            return
        threading.Event().wait(self.server.thinks)
        body = b'{"00081198": {"vr": "SQ"}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # a client that waited long enough
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.bodies = []
    with served(server):
        yield server


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "pixels"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def client_of(server: Server, scheme: str = "http") -> StowClient:
    return StowClient(f"{scheme}://127.0.0.1:{server.server_port}/dicom-web", timeout=10)


def mixed(fd: int) -> list[Part]:
    """Parts that begin, go on and end in memory or in the file, in every order of sizes."""
    parts = []
    for size in SIZES:
        for other in SIZES:
            segments = [
                CONTENT[:size],
                FileRange(fd, 100, other),
                FileRange(fd, 7, size),
                CONTENT[5 : 5 + other],
            ]
            parts.append(Part(segments, 2 * (size + other)))
    return parts


def boundary_of(body: bytes) -> bytes:
    return body[2:].partition(b"\r\n")[0]


def received(server: Server) -> list[bytes]:
    """The parts of the one whole request; one that was broken off may be noticed before or after it."""
    [body] = [each for each in server.bodies if each and each.endswith(boundary_of(each) + b"--\r\n")]
    boundary = boundary_of(body)
    return [each.partition(b"\r\n\r\n")[2] for each in body.split(b"\r\n" + boundary)[1:-1]]


def expected() -> list[bytes]:
    def at(start: int, size: int) -> bytes:
        return CONTENT[start : start + size]

    return [at(0, size) + at(100, other) + at(7, size) + at(5, other) for size in SIZES for other in SIZES]


def test_memory_and_files_arrive_in_order(server: Server, fd: int) -> None:
    client = client_of(server)
    client.store(mixed(fd))
    assert received(server) == expected()
    client.close()


def test_over_tls_too(server: Server, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "fullchain.pem"))
    client = client_of(server, "https")
    client.store(mixed(fd))
    assert received(server) == expected()
    client.close()


@pytest.mark.parametrize("before", [0, 2])
def test_where_the_kernel_cannot_send_a_file_it_is_read(
    server: Server, fd: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sendfile", _failing_after(before, os.sendfile))
    client = client_of(server)
    client.store(mixed(fd))
    assert received(server) == expected()
    client.close()


def _failing_after(calls: int, sendfile: Callable[..., int]) -> Callable[..., int]:
    """Sends so many pieces, each in part, and then says what a file system without it says."""
    left = [calls]

    def send(to: int, source: int, offset: int, count: int) -> int:
        if not left[0]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        left[0] -= 1
        return sendfile(to, source, offset, min(count, 1000))

    return send


def test_a_large_file_that_shrinks_breaks_the_request_off(server: Server, fd: int) -> None:
    os.ftruncate(fd, 100_000)
    client = client_of(server)
    with pytest.raises(SourceChangedError):
        client.store([Part([FileRange(fd, 0, 700_000)], 700_000)])
    client.store([Part([b"the next request is a whole one"], 31)])
    assert received(server) == [b"the next request is a whole one"]
    client.close()


def test_a_connection_that_is_cut_while_the_kernel_sends_is_the_archives_fault(
    server: Server, fd: int
) -> None:
    server.reads = 1000
    client = client_of(server)
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([Part([FileRange(fd, 0, 1 << 20)] * 20, 20 << 20)])
    assert caught.value.reason == "interrupted"
    client.close()


def test_an_archive_that_takes_nothing_is_waited_for_no_longer_than_the_timeout(
    server: Server, fd: int
) -> None:
    server.reads = 1 << 40
    client = StowClient(f"http://127.0.0.1:{server.server_port}/dicom-web", timeout=0.2)
    stuck = threading.Event()
    handler = type("Deaf", (Handler,), {"do_POST": lambda _self: stuck.wait(10)})
    server.RequestHandlerClass = handler
    with pytest.raises(ArchiveUnavailableError):
        client.store([Part([FileRange(fd, 0, 1 << 20)] * 40, 40 << 20)])
    stuck.set()
    client.close()


def test_a_large_request_may_be_answered_later(server: Server, fd: int) -> None:
    server.thinks = 0.3
    client = StowClient(f"http://127.0.0.1:{server.server_port}/dicom-web", timeout=0.1)
    with pytest.raises(ArchiveUnavailableError) as caught:
        client.store([Part([b"small"], 5)])
    assert caught.value.reason == "timeout"
    size = 20 << 20
    os.ftruncate(fd, size)
    client.store([Part([FileRange(fd, 0, size)], size)])
    client.close()


def test_a_file_that_was_written_to_breaks_the_request_off(server: Server, fd: int) -> None:
    client = client_of(server)
    whole = Part([FileRange(fd, 0, 1000)], 1000)
    with pytest.raises(SourceChangedError):
        client.store([Part([FileRange(fd, 0, 1000)], 1000, lambda: False), whole])
    client.store([whole])
    assert received(server) == [CONTENT[:1000]]
    client.close()


def test_a_file_that_can_no_longer_be_looked_at_is_not_the_archives_fault(server: Server, fd: int) -> None:
    def stale() -> bool:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    client = client_of(server)
    with pytest.raises(SourceChangedError):
        client.store([Part([FileRange(fd, 0, 1000)], 1000, stale)])
    client.close()
