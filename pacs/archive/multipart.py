"""The one part of a multipart/related body (RFC 2046 section 5.1), unwrapped on its way through.

MultipartError
└── BrokenOffError
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BOUNDARY = re.compile(
    r'multipart/related\s*;.*?\bboundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', re.IGNORECASE
)
_HEAD_MAX = 1 << 16
_EPILOGUE_CHUNKS = 4


class MultipartError(ValueError):
    """This is no multipart/related, or has more than one part."""


class BrokenOffError(MultipartError):
    """It ended before its part did."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type states.

    Raises:
        MultipartError: it is no multipart/related, or states none.
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise MultipartError("this is no multipart/related")
    return found[1].encode("ascii")


def only_part(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """The content of the first and only part: its head is read at once, the rest as it is taken.

    Raises:
        MultipartError: it has no part, or ends early; later, too, when it ends early or has more parts.
    """
    stream = iter(chunks)
    delimiter = b"\r\n--" + boundary
    return _content(stream, _after_head(stream, delimiter), delimiter)


def _after_head(stream: Iterator[bytes], delimiter: bytes) -> bytes:
    # The first delimiter may have no line before it.
    head = b"\r\n"
    while (start := head.find(delimiter)) < 0 or (end := head.find(b"\r\n\r\n", start)) < 0:
        if len(head) > _HEAD_MAX:
            raise MultipartError("the multipart body has no part")
        head += _next(stream)
    return head[end + 4 :]


def _content(stream: Iterator[bytes], held: bytes, delimiter: bytes) -> Iterator[bytes]:
    while (end := held.find(delimiter)) < 0:
        # The end of what is here may be the beginning of a delimiter.
        safe = max(0, len(held) - len(delimiter) + 1)
        if safe:
            yield held[:safe]
        held = held[safe:] + _next(stream)
    if end:
        yield held[:end]
    tail = held[end + len(delimiter) :]
    while len(tail) < len(b"--"):
        tail += _next(stream)
    if not tail.startswith(b"--"):
        raise MultipartError("the multipart body has more than one part")
    # A connection whose answer was read to its end serves the next request, too.
    for _ in range(_EPILOGUE_CHUNKS):
        next(stream, None)


def _next(stream: Iterator[bytes]) -> bytes:
    chunk = next(stream, None)
    if chunk is None:
        raise BrokenOffError("the multipart body ended early")
    return chunk
