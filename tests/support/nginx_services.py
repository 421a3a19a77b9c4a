"""What stands around nginx in its tests: a name server, recorders in front of real services, an echo."""

from __future__ import annotations

import json
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import urllib3
from werkzeug.serving import make_server

from support.gateway import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.settings import ArchiveSettings

_HEADER = struct.Struct(">6H")
_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})
_HOLD_SECONDS = 30


class Names:
    """A name server (RFC 1035) for the names in `addresses`, which a test may change; others do not exist."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            if query == b"stop":
                return
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        number, _, _, _, _, _ = _HEADER.unpack_from(query)
        labels, position = [], _HEADER.size
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode())
            position += length + 1
        question = query[_HEADER.size : position + 5]
        found = self.addresses.get(".".join(labels))
        if found is None:
            return _HEADER.pack(number, 0x8183, 1, 0, 0, 0) + question
        record = struct.pack(">3HLH", 0xC00C, 1, 1, 600, 4) + socket.inet_aton(found)
        return _HEADER.pack(number, 0x8180, 1, 1, 0, 0) + question + record

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Recorder:
    """A server that keeps what it was asked; see `relay` and `echo`."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    # Instead of the true answer: a status, or 0 to close the connection.
    fault: int | None = None
    extra: dict[str, str] = field(default_factory=dict)
    # What comes waits until it is set.
    hold: threading.Event | None = None


@contextmanager
def relay(archive: ArchiveSettings) -> Iterator[Recorder]:
    """In front of an archive: asks it with its own credentials, and hands its answer on as it is."""
    recorder = Recorder()
    pool = urllib3.PoolManager(retries=False)
    root = archive.archive_url.removesuffix("/dicom-web")
    login = urllib3.make_headers(
        basic_auth=f"{archive.archive_username}:{archive.archive_password.get_secret_value()}"
    )

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        dropped = {"authorization", "connection"}
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in dropped}
        if archive.archive_username:
            headers |= login
        got = pool.request(asked.method, root + asked.path, headers=headers, decode_content=False)
        kept = {name: value for name, value in got.headers.items() if name.lower() not in _HOP_BY_HOP}
        return got.status, kept, got.data

    with _recording(recorder, answer):
        yield recorder
    pool.clear()


@contextmanager
def echo(host: str = "127.0.0.1", port: int = 0) -> Iterator[Recorder]:
    """Stands for a service of others: answers 200 with what it was asked."""
    recorder = Recorder()

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        told = {"host": host, "path": asked.path, "headers": asked.headers, "length": len(asked.body)}
        return 200, {"Content-Type": "application/json", **recorder.extra}, json.dumps(told).encode()

    with _recording(recorder, answer, host, port):
        yield recorder


@contextmanager
def _recording(recorder: Recorder, answer: Any, host: str = "127.0.0.1", port: int = 0) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(self.command, self.path, dict(self.headers.items()), body)
            recorder.asked.append(asked)
            self.close_connection = True
            if recorder.hold is not None:
                recorder.hold.wait(_HOLD_SECONDS)
            if recorder.fault == 0:
                return
            status, headers, content = answer(asked) if recorder.fault is None else _fault(recorder.fault)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_any  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    recorder.port = server.server_address[1]
    with served(server):
        yield


def _fault(status: int) -> tuple[int, dict[str, str], bytes]:
    words = b'{"HttpError": "words of the archive", "OrthancError": "inside"}'
    return status, {"Content-Type": "application/json", "Location": "http://archive.internal/"}, words


@dataclass
class Watched:
    """The gateway over HTTP: what arrived (WSGI environments), and how many connections were accepted."""

    application: Any
    port: int = 0
    connections: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.asked.append(dict(environ))
        return self.application(environ, start_response)

    @contextmanager
    def running(self) -> Iterator[Watched]:
        server = make_server("127.0.0.1", 0, self, threaded=True)
        accept = server.get_request

        def counted() -> Any:
            self.connections += 1
            return accept()

        server.get_request = counted  # type: ignore[method-assign]
        self.port = server.server_port
        with served(server):
            yield self
