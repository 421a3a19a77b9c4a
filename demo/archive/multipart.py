"""multipart/related bodies (RFC 2046 section 5.1.1), read and written as streams.

Werkzeug's decoder was looked at: it insists on Content-Disposition, which multipart/related has not,
and accepts bare line feeds as line ends, which binary parts may contain.
"""

from __future__ import annotations

import secrets
from email.errors import MessageError
from email.parser import BytesHeaderParser
from typing import IO, TYPE_CHECKING

from demo.archive.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import Message

_CHUNK = 256 * 1024
_MAX_HEADERS = 16 * 1024
_MAX_BOUNDARY = 70


class MultipartReader:
    """Reads the parts of a multipart body one after the other, holding one chunk in memory.

    Args:
        stream: the body, read forward only.
        boundary: the boundary parameter of the body's Content-Type.

    Raises:
        RequestError: 400 when the boundary or the body is malformed or ends too early.
    """

    def __init__(self, stream: IO[bytes], boundary: str) -> None:
        if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
            raise RequestError(400, "Content-Type has no usable boundary")
        self._stream = stream
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # A body may start with its first boundary: the line end before it is then implied.
        self._buffer = bytearray(b"\r\n")

    def parts(self) -> Iterator[tuple[Message, Iterator[bytes]]]:
        """Each part's headers and its bytes in chunks; what a caller leaves unread is skipped."""
        for _ in self._until_delimiter():
            pass
        while not self._at_end():
            headers = self._headers()
            chunks = self._until_delimiter()
            yield headers, chunks
            for _ in chunks:
                pass

    def _until_delimiter(self) -> Iterator[bytes]:
        keep = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                yield bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
            self._fill()
        if at:
            yield bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]

    def _fill(self) -> None:
        chunk = self._stream.read(_CHUNK)
        if not chunk:
            raise RequestError(400, "the multipart body ends before its last boundary")
        self._buffer += chunk

    def _take_through(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > _MAX_HEADERS:
                raise RequestError(400, "the headers of a part are too long")
            self._fill()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    def _at_end(self) -> bool:
        while len(self._buffer) < len(b"--"):
            self._fill()
        if self._buffer.startswith(b"--"):
            return True
        if self._take_through(b"\r\n").strip(b" \t"):
            raise RequestError(400, "a boundary is not followed by a line end")
        return False

    def _headers(self) -> Message:
        # A part without headers begins with the empty line.
        while len(self._buffer) < len(b"\r\n"):
            self._fill()
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            block = b""
        else:
            block = self._take_through(b"\r\n\r\n")
        try:
            return BytesHeaderParser().parsebytes(block)
        except (MessageError, ValueError) as error:
            raise RequestError(400, "the headers of a part cannot be read") from error


def new_boundary() -> str:
    """A boundary that no part contains but by a chance of 2^-128."""
    return secrets.token_hex(16)


def write_parts(boundary: str, parts: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Join parts, each a Content-Type and its bytes in chunks, to a multipart body."""
    for content_type, chunks in parts:
        yield f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode("ascii")
        yield from chunks
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
