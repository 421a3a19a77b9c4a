"""Connections to the archive, and the body of a STOW-RS request: what is in files is sent by the kernel.

Half a megabyte that is read and sent piece by piece costs 0.5 ms of processor time, the kernel alone 0.1
(measured): time that the archive needs where it is on the same machine.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import contextmanager, suppress
from functools import partial
from threading import Timer
from typing import TYPE_CHECKING

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import wait_for_write

from pacs.archive.parts import FileRange
from pacs.archive.protocol import SourceChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from urllib3 import HTTPResponse

    from pacs.archive.parts import Segment
    from pacs.archive.protocol import Part

_GATHERED = 1 << 18
_LARGE = 1 << 16
"""From this size on a segment is sent by itself; below, a copy is cheaper than one more packet."""


def size_of(parts: Sequence[Part], boundary: str) -> int:
    """How many bytes `pieces` will be."""
    return sum(part.size for part in parts) + len(parts) * len(_head(boundary)) + len(_tail(boundary))


def pieces(parts: Sequence[Part], boundary: str) -> Iterator[memoryview | Segment]:
    """The multipart body (PS3.18 section 8.6.1.2). Each piece is to be sent before the next is asked for.

    A `memoryview` is never the last one.

    Raises:
        SourceChangedError: a file changed or became unreadable.
    """
    buffer = memoryview(bytearray(_GATHERED))
    filled = 0
    for segment in _segments(parts, boundary):
        size = segment.length if isinstance(segment, FileRange) else len(segment)
        if size >= _LARGE or filled + size > _GATHERED:
            yield buffer[:filled]
            filled = 0
        if size >= _LARGE:
            yield segment
            continue
        room = buffer[filled : filled + size]
        if isinstance(segment, FileRange):
            _fill(room, segment.fd, segment.offset)
        else:
            room[:] = segment
        filled += size
    yield bytes(buffer[:filled])


def _segments(parts: Sequence[Part], boundary: str) -> Iterator[Segment]:
    head = _head(boundary)
    for part in parts:
        yield head
        yield from part.segments
        try:
            unchanged = part.unchanged()
        except OSError as error:
            raise SourceChangedError(f"a file was unreadable while it was sent: {error.strerror}") from error
        if not unchanged:
            raise SourceChangedError("a file was written to while it was sent")
    yield _tail(boundary)


def _head(boundary: str) -> bytes:
    return f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _tail(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def _fill(room: memoryview, fd: int, offset: int) -> None:
    while room:
        try:
            count = os.preadv(fd, [room], offset)
        except OSError as error:
            raise SourceChangedError(f"a file was unreadable while it was sent: {error.strerror}") from error
        if not count:
            raise SourceChangedError("a file became shorter while it was sent")
        room = room[count:]
        offset += count


def _by_the_kernel(to: socket.socket, piece: FileRange) -> int:
    """How many bytes of the range the kernel sent: fewer than all where it cannot, or the file ends."""
    sent = 0
    while sent < piece.length:
        try:
            count = os.sendfile(to.fileno(), piece.fd, piece.offset + sent, piece.length - sent)
        except BlockingIOError:
            if not wait_for_write(to, to.gettimeout()):
                raise TimeoutError("timed out") from None
            continue
        except ConnectionError:
            raise
        except OSError:
            # The file's or the connection's: reading the rest and sending it tells whose.
            break
        if not count:
            break
        sent += count
    return sent


@contextmanager
def all_within(seconds: float | None, cut: Callable[[], object]) -> Iterator[None]:
    """Cut a connection that is still read a second after this time, or never.

    A time-out of a socket begins anew with each byte: an answer that drips would hold a thread for ever.
    """
    if seconds is None:
        yield
        return
    timer = Timer(seconds + 1, _try, (cut,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _try(cut: Callable[[], object]) -> None:
    # The answer may come to its end at this moment.
    with suppress(OSError, RuntimeError):
        cut()


class _Connection(HTTPConnection):
    """One that also sends what is still in a file, and does not read a head for ever."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """The answer, of which the head has come."""
        with all_within(self.timeout, partial(self.sock.shutdown, socket.SHUT_RD)):
            return super().getresponse()

    def send(self, data: Any) -> None:
        """Send bytes or a range of a file."""
        is_plain = self.sock is not None and not isinstance(self.sock, ssl.SSLSocket)
        if isinstance(data, memoryview) and is_plain:
            # Together with what follows: a packet of its own would wake up the archive for a header.
            self.sock.sendall(data, socket.MSG_MORE)
            return
        if not isinstance(data, FileRange):
            super().send(data)
            return
        sent = _by_the_kernel(self.sock, data) if is_plain else 0
        buffer = memoryview(bytearray(min(_GATHERED, data.length - sent)))
        while sent < data.length:
            piece = buffer[: data.length - sent]
            _fill(piece, data.fd, data.offset + sent)
            super().send(piece)
            sent += len(piece)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _Pool, "https": _TlsPool}
"""For `urllib3.PoolManager.pool_classes_by_scheme`: their requests take `pieces` for a body."""
