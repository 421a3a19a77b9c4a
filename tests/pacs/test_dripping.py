"""An archive, or a proxy before it, that sends a byte now and then: no thread waits for it for ever."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pacs.archive import ArchiveUnavailableError, Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.ids import Uid
from pacs.settings import ArchiveSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = b"HTTP/1.1 200 OK\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
JSON = HEAD + b"Content-Type: application/dicom+json\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes], str]]:
    """Starts a server that begins its answers with these bytes and goes on, byte by byte; its address."""
    stopped = threading.Event()
    listeners = []

    def drip(to: socket.socket, begin: bytes) -> None:
        with to, suppress(OSError):
            to.recv(65536)
            to.sendall(begin)
            while not stopped.wait(0.05):
                to.sendall(b" " if begin == JSON else b"x")

    def serve(listener: socket.socket, begin: bytes) -> None:
        with listener, suppress(OSError):
            while True:
                to, _ = listener.accept()
                threading.Thread(target=drip, args=(to, begin), daemon=True).start()

    def start(begin: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, begin), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"

    yield start
    stopped.set()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)


def ask_for_study(archive: DicomWebArchive) -> object:
    return archive.study(Uid("1.2"))


def store(archive: DicomWebArchive) -> object:
    return archive.store([Part((b"x",), 1)])


@pytest.mark.parametrize("begin", [b"", HEAD, JSON, EMPTY], ids=["nothing", "head", "body", "empty"])
@pytest.mark.parametrize("ask", [ask_for_study, store])
def test_an_answer_that_drips_is_given_up(
    dripping: Callable[[bytes], str], begin: bytes, ask: Callable[[DicomWebArchive], object]
) -> None:
    """Nor is one taken for whole that was cut off in its head, or that has no body."""
    archive = DicomWebArchive(ArchiveSettings(archive_url=dripping(begin), archive_timeout_seconds=0.5))
    began = time.monotonic()
    with pytest.raises(ArchiveUnavailableError):
        ask(archive)
    assert time.monotonic() - began < 30
    archive.close()
