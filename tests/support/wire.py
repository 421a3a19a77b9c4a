"""Requests over TLS byte for byte as a test writes them, and each answer as it came back."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

    from support.nginx import Nginx

_INFORMATIONAL = 200
_WITHOUT_BODY = frozenset({204, 304})
_SECONDS = 30


class BrokenAnswerError(Exception):
    """What came back is no HTTP answer, or it ended early."""


@dataclass(frozen=True)
class Answer:
    """One answer; `body` without the chunks' sizes, but packed if it was."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        return ", ".join(value for each, value in self.headers if each.lower() == name.lower())

    @property
    def shape(self) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """All of it but the time of day."""
        return self.status, tuple(each for each in self.headers if each[0].lower() != "date"), self.body


def loopback(chance: random.Random | None = None) -> str:
    """Another client's address of this machine: nginx counts requests by address."""
    chosen = chance or random.SystemRandom()
    return f"127.{chosen.randint(1, 250)}.{chosen.randint(0, 255)}.{chosen.randint(1, 254)}"


@dataclass
class Wire:
    """One connection to nginx."""

    nginx: Nginx
    source: str = field(default_factory=loopback)
    context: ssl.SSLContext | None = None
    _held: bytes = b""

    def __enter__(self) -> Self:
        plain = socket.create_connection(("127.0.0.1", self.nginx.https_port), _SECONDS, (self.source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = (self.context or self.nginx.trust()).wrap_socket(plain, server_hostname="localhost")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def send_if_open(self, request: bytes) -> None:
        """The same, unless nginx has closed the connection already."""
        with suppress(OSError):
            self.send(request)

    def answer(self, method: str = "GET") -> Answer:
        """The next one.

        Raises:
            BrokenAnswerError: there is none, or it is not whole.
        """
        while True:
            status, headers = self._head()
            if status >= _INFORMATIONAL:
                return Answer(status, headers, self._body(method, status, dict(headers)))

    def ended(self) -> bool:
        """Whether nginx sends nothing more and closes."""
        return not self._held and not self._receive()

    def all(self, silence: float = 0.4) -> bytes:
        """Whatever has come and comes until nginx closes, or for so many seconds sends nothing."""
        self._socket.settimeout(silence)
        try:
            while self._receive():
                pass
        except TimeoutError:
            pass
        got, self._held = self._held, b""
        return got

    def _head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        while b"\r\n\r\n" not in self._held:
            if not self._receive():
                raise BrokenAnswerError(self._held[:200])
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1.1 "):
            raise BrokenAnswerError(first)
        fields = (line.partition(":") for line in lines)
        return int(first.split()[1]), tuple((name, value.strip()) for name, _, value in fields)

    def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in _WITHOUT_BODY:
            return b""
        named = {name.lower(): value for name, value in headers.items()}
        if named.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        if "content-length" in named:
            return self._take(int(named["content-length"]))
        while self._receive():
            pass
        body, self._held = self._held, b""
        return body

    def _chunk(self) -> bytes:
        while b"\r\n" not in self._held:
            if not self._receive():
                raise BrokenAnswerError("a chunk is missing")
        size, _, self._held = self._held.partition(b"\r\n")
        return self._take(int(size, 16) + 2)[:-2]

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            if not self._receive():
                raise BrokenAnswerError(f"{size - len(self._held)} bytes are missing")
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _receive(self) -> bool:
        try:
            got = self._socket.recv(1 << 16)
        except ConnectionError:
            return False
        self._held += got
        return bool(got)
