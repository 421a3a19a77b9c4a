"""The one part of a multipart/related body (RFC 2046 section 5.1), unwrapped on its way through.

Orthanc answers instances, frames and bulk values as multipart only; a viewer may want a PDF as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.problems import BadGateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BOUNDARY = re.compile(
    r'multipart/related\s*;.*?\bboundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', re.IGNORECASE
)
_HEAD_MAX = 16_384


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type states.

    Raises:
        BadGateway: it is no multipart/related, or states none.
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise BadGateway
    return found[1].encode("ascii")


def single_part(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """The content of the first and only part.

    Raises:
        BadGateway: the body is no multipart; `ValueError` later, when it ends early or has more parts.
    """
    stream = iter(chunks)
    rest = _after_head(stream, b"--" + boundary)
    return _content(stream, rest, b"\r\n--" + boundary)


def _after_head(stream: Iterator[bytes], delimiter: bytes) -> bytes:
    head = b""
    for chunk in stream:
        head += chunk
        start = head.find(delimiter)
        end = head.find(b"\r\n\r\n", start) if start >= 0 else -1
        if end >= 0:
            return head[end + 4 :]
        if len(head) > _HEAD_MAX:
            break
    raise BadGateway


def _content(stream: Iterator[bytes], held: bytes, delimiter: bytes) -> Iterator[bytes]:
    while (end := held.find(delimiter)) < 0:
        safe = max(0, len(held) - len(delimiter) + 1)
        if safe:
            yield held[:safe]
        chunk = next(stream, b"")
        if not chunk:
            raise ValueError("the multipart body ended early")
        held = held[safe:] + chunk
    if end:
        yield held[:end]
    tail = held[end + len(delimiter) :] + b"".join(stream)
    if not tail.startswith(b"--"):
        raise ValueError("the multipart body has more than one part")
