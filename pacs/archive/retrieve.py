"""One instance out of the answer to a WADO-RS request, while it comes (PS3.18 section 10.4).

Some archives answer with the file itself, others, Orthanc among them, know multipart answers only.
"""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING

from pacs.archive.protocol import ArchiveUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT = (
    'multipart/related; type="application/dicom"; transfer-syntax=*, application/dicom; transfer-syntax=*'
)
"""As it was stored: without a transfer syntax named, Orthanc decompresses."""

CHUNK = 1 << 18
_HEADERS_LIMIT = 1 << 16
_EPILOGUE_CHUNKS = 4


def instance_in(content_type: str, body: Iterator[bytes]) -> Iterator[bytes]:
    """The first instance of an answer, in chunks.

    Raises:
        ArchiveUnavailableError: ``not-dicom``: the answer is something else; ``interrupted``: it ends early.
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() == "application/dicom":
        return body
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/related" or not boundary:
        raise ArchiveUnavailableError("not-dicom")
    return _first_part(body, b"\r\n--" + boundary.encode("latin-1", "replace"))


def _first_part(body: Iterator[bytes], delimiter: bytes) -> Iterator[bytes]:
    rest = _after_headers(body, delimiter)
    while (end := rest.find(delimiter)) < 0:
        # The end of what is here may be the beginning of a delimiter.
        kept = min(len(rest), len(delimiter) - 1)
        yield rest[: len(rest) - kept]
        rest = rest[len(rest) - kept :] + _next(body)
    yield rest[:end]
    # A connection whose answer was read to its end serves the next request, too.
    for _ in range(_EPILOGUE_CHUNKS):
        next(body, None)


def _after_headers(body: Iterator[bytes], delimiter: bytes) -> bytes:
    # The first delimiter may have no line before it.
    buffer = b"\r\n"
    while (start := buffer.find(delimiter)) < 0 or (end := buffer.find(b"\r\n\r\n", start)) < 0:
        if len(buffer) > _HEADERS_LIMIT:
            raise ArchiveUnavailableError("not-dicom")
        buffer += _next(body)
    return buffer[end + 4 :]


def _next(body: Iterator[bytes]) -> bytes:
    chunk = next(body, None)
    if chunk is None:
        raise ArchiveUnavailableError("interrupted")
    return chunk
