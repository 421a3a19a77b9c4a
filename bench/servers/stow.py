"""The cheapest STOW-RS client there can be: its requests lie ready in a file, and the kernel sends them."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from bench.rounds import cpu_seconds
from bench.servers.inbox_data import files_below, tagged

if TYPE_CHECKING:
    from pathlib import Path

    from support.orthanc import Orthanc

_BOUNDARY = "0123456789abcdef0123456789abcdef"
_HEAD = f"\r\n--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Way:
    """How requests are sent."""

    connections: int
    batch: int

    def __str__(self) -> str:
        return f"{self.connections} connections, {self.batch} a request"


WAYS = [Way(connections, batch) for connections in (1, 2, 4, 8) for batch in (1, 5, 10, 20, 50)]


@dataclass(frozen=True)
class Sent:
    """What it took: files a second, and processor time in ms a file, of the client and of Orthanc."""

    rate: float
    client: float
    server: float


class Prepared:
    """Instances already tagged, as parts of a multipart body, one behind the other in one file."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self._file = prepared
        self._starts = [0]
        self.plain: list[tuple[int, int]] = []
        with prepared.open("wb") as file:
            for path in files_below(folder):
                file.write(_HEAD)
                start = file.tell()
                file.writelines(tagged(path))
                self.plain.append((start, file.tell() - start))
                self._starts.append(file.tell())

    def __len__(self) -> int:
        return len(self.plain)

    def store(self, server: Orthanc, way: Way, files: int | None = None) -> Sent:
        """Send the first `files`, or all, in batches by STOW-RS.

        Raises:
            SystemExit: one was not stored.
        """
        total = len(self) if files is None else files
        ends = [(first, min(first + way.batch, total)) for first in range(0, total, way.batch)]
        requests = [(self._starts[first], self._starts[end], end - first) for first, end in ends]
        return self._send(server, way.connections, requests, "/dicom-web/studies", _TAIL)

    def post(self, server: Orthanc, connections: int, files: int | None = None) -> Sent:
        """The same, each file by itself to Orthanc's own /instances."""
        requests = [(start, start + size, 1) for start, size in self.plain[:files]]
        return self._send(server, connections, requests, "/instances", b"")

    def _send(
        self, server: Orthanc, connections: int, requests: list[tuple[int, int, int]], path: str, tail: bytes
    ) -> Sent:
        turns = count()
        faults: list[str] = []

        def work() -> None:
            with self._file.open("rb") as file, _Connection(server, path, tail) as connection:
                while not faults and (turn := next(turns)) < len(requests):
                    start, end, instances = requests[turn]
                    if connection.send(file.fileno(), start, end) != instances:
                        faults.append(f"{path} did not store {instances} instances")

        threads = [threading.Thread(target=work) for _ in range(connections)]
        began, mine, theirs = time.monotonic(), time.process_time(), cpu_seconds([server.process.pid])
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        mine, theirs = time.process_time() - mine, cpu_seconds([server.process.pid]) - theirs
        if faults:
            raise SystemExit(faults[0])
        files = sum(instances for _, _, instances in requests)
        return Sent(files / seconds, mine * 1000 / files, theirs * 1000 / files)


class _Connection:
    """One kept connection."""

    def __init__(self, server: Orthanc, path: str, tail: bytes) -> None:
        where = urlsplit(server.url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 80), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._tail = tail
        login = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
        kind = (
            f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
            if tail
            else "application/dicom"
        )
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n"
            f"Accept: application/dicom+json\r\nContent-Type: {kind}\r\nContent-Length: "
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def send(self, fd: int, start: int, end: int) -> int:
        """Send one request; returns how many instances the answer lists as stored."""
        self._socket.sendall(f"{self._head}{end - start + len(self._tail)}\r\n\r\n".encode(), socket.MSG_MORE)
        self._socket.settimeout(None)
        while start < end:
            start += os.sendfile(self._socket.fileno(), fd, start, end - start)
        self._socket.settimeout(300)
        self._socket.sendall(self._tail)
        status, answer = self._answer()
        if status != 200:
            raise SystemExit(f"Orthanc answered {status}: {answer[:200]!r}")
        told = json.loads(answer)
        return len(told["00081199"]["Value"]) if self._tail else told["Status"] == "Success"

    def _answer(self) -> tuple[int, bytes]:
        status = int(self._answers.readline().split()[1])
        size = 0
        while (line := self._answers.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        return status, self._answers.read(size)
