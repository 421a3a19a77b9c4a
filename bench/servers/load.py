"""A client that costs little: many kept connections in one thread, bodies counted and thrown away.

A process of its own, the same for ours and for the peer: `run` starts it with a `Load` and gets a `Report`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUFFER = 1 << 20
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What to ask.

    Attributes:
        port: of 127.0.0.1.
        headers: of every request, Host too.
        stages: addresses and their Accept; a stage begins when the one before it is answered.
        connections: at once, opened before the clock starts. Each is a client of its own address.
        authority: whose certificates are trusted; empty for plain HTTP.
        seconds: how long the last stage is repeated; 0 asks everything once.
    """

    port: int
    headers: dict[str, str]
    stages: list[list[tuple[str, str]]]
    connections: int = 16
    authority: str = ""
    seconds: float = 0


@dataclass(frozen=True)
class Report:
    """What came of it; seconds of the clock by stage, and the client's own processor seconds."""

    stages: list[float]
    requests: int
    bytes: int
    cpu_seconds: float
    statuses: dict[str, int]
    reconnects: int

    @property
    def seconds(self) -> float:
        return sum(self.stages)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def run(load: Load) -> Report:
    """Ask, in a process of its own.

    Raises:
        SystemExit: not everything was answered with 200.
    """
    given = json.dumps(dataclasses.asdict(load))
    done = subprocess.run(
        [sys.executable, __file__], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the client failed: {done.stderr[-2000:]}")
    report = Report(**json.loads(done.stdout))
    if set(report.statuses) != {"200"}:
        raise SystemExit(f"not everything was answered: {report.statuses}")
    return report


@contextmanager
def beside(load: Load) -> Iterator[None]:
    """Ask all the while the block runs, for no longer than the load says; what comes of it does not count."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(json.dumps(dataclasses.asdict(load)).encode())
    process.stdin.close()
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"the client beside ended too early, with code {process.returncode}")
    finally:
        process.terminate()
        process.wait()


@dataclass
class _Client:
    """Asks over all connections at once."""

    load: Load
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_BUFFER)))
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    statuses: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    reconnects: int = 0

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=self.load.authority) if self.load.authority else None
        self.connections = [_Connection(self, number) for number in range(self.load.connections)]

    def ask(self, requests: list[bytes]) -> float:
        """All of them, or again and again for as long as the load says; the seconds it took."""
        waiting = deque(requests)
        idle = list(self.connections)
        asked = 0
        began = time.perf_counter()
        until = began + self.load.seconds
        while True:
            while idle and waiting:
                asked += 1
                idle.pop().send(waiting[0])
                waiting.rotate(-1)
                if asked >= len(requests) and time.perf_counter() >= until:
                    waiting.clear()
            if len(idle) == len(self.connections):
                return time.perf_counter() - began
            for key, _ in self.selector.select(30):
                if key.data.receive():
                    idle.append(key.data)


class _Connection:
    """One connection: one request at a time."""

    def __init__(self, client: _Client, number: int) -> None:
        self._client = client
        self._source = f"127.0.0.{number % 250 + 2}"
        self._connect()

    def _connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self._client.load.port), 30, (self._source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._client.context
        self._socket = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        self._socket.setblocking(False)
        self._client.selector.register(self._socket, selectors.EVENT_READ, self)
        self._closed = False

    def send(self, request: bytes) -> None:
        if self._closed:
            self._client.reconnects += 1
            self._connect()
        self._request, self._head, self._left, self._tail, self._fresh = request, b"", None, b"", True
        self._socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there; True when the answer is complete."""
        while True:
            try:
                count = self._socket.recv_into(self._client.buffer)
            except (ssl.SSLWantReadError, BlockingIOError):
                return False
            except ConnectionResetError:
                count = 0
            if not count:
                return self._ended()
            self._fresh = False
            if self._take(count):
                return True

    def _ended(self) -> bool:
        self._close()
        if self._fresh:  # an idle connection that the server has closed at this moment
            self._client.reconnects += 1
            self._connect()
            self._socket.sendall(self._request)
            return False
        if self._left is not None or not self._head:
            raise SystemExit("an answer was cut off")
        return True

    def _take(self, count: int) -> bool:
        self._client.bytes += count
        if self._left is None and not self._tail:
            self._head += bytes(self._client.buffer[:count])
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return False
            self._client.statuses[head.split(b" ", 2)[1].decode()] += 1
            self._last = _CLOSE.search(head) is not None
            length = _LENGTH.search(head)
            if length:
                self._left, count = int(length[1]), len(body)
            elif _CHUNKED.search(head):
                self._tail = b"-" + body[-5:]
            else:
                self._tail, self._last = b"until it ends", True
        elif self._tail:
            self._tail = (self._tail + bytes(self._client.buffer[max(0, count - 5) : count]))[-6:]
        if self._left is not None:
            self._left -= count
        if self._left == 0 or self._tail.endswith(_LAST_CHUNK):
            if self._last:
                self._close()
            return True
        return False

    def _close(self) -> None:
        self._client.selector.unregister(self._socket)
        self._socket.close()
        self._closed = True


def main() -> None:
    """A `Load` on stdin, a `Report` on stdout."""
    load = Load(**json.load(sys.stdin))
    fixed = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    stages = [
        [f"GET {path} HTTP/1.1\r\n{fixed}Accept: {accept}\r\n\r\n".encode() for path, accept in stage]
        for stage in load.stages
    ]
    client = _Client(load)
    before = time.process_time()
    seconds = [client.ask(stage) for stage in stages]
    cpu = time.process_time() - before
    report = Report(
        seconds, client.statuses.total(), client.bytes, cpu, dict(client.statuses), client.reconnects
    )
    json.dump(dataclasses.asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
