"""STOW-RS by a streamed multipart body over pooled connections.

dicomweb-client's `store_instances` decodes, re-encodes and buffers what it sends, raises before
FailedSOPSequence can be read, and its retry sends an exhausted generator (measured, 0.61): so the one
request that carries the images is built here.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

import urllib3

from pacs.archive import body
from pacs.archive.model import (
    FAILED_SOP_SEQUENCE,
    OTHER_FAILURES_SEQUENCE,
    REFERENCED_SOP_SEQUENCE,
    StoreAnswer,
    is_dataset,
)
from pacs.archive.protocol import (
    ArchiveUnavailableError,
    Part,
    RequestTooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_CHUNK = 1 << 18
_ANSWER_LIMIT = 64 << 20
_ABOUT_THE_FILES = frozenset({200, 202, 400, 409})
_FINAL = 200
_TOO_LARGE = 413
_RESULTS = frozenset({FAILED_SOP_SEQUENCE, OTHER_FAILURES_SEQUENCE, REFERENCED_SOP_SEQUENCE})
_JSON_TYPES = frozenset({"application/dicom+json", "application/json"})
_DIGESTED = 10 << 20
"""Bytes a second: an archive answers when all of a request is on its disk, and 2 GB take it a while."""


class StowClient:
    """Sends instances to one DICOMweb root; `connections` of them are kept open."""

    def __init__(
        self, url: str, *, username: str = "", password: str = "", timeout: float = 60, connections: int = 4
    ) -> None:
        self._url = f"{url}/studies"
        self._timeout = timeout
        self._headers = {"Accept": "application/dicom+json", "User-Agent": "clinicpacs"}
        if username:
            self._headers |= urllib3.make_headers(basic_auth=f"{username}:{password}")
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            # A body that is streamed from files cannot be repeated by the library; the importer repeats.
            retries=False,
        )
        self._pool.pool_classes_by_scheme = body.POOLS

    def store(self, parts: Sequence[Part]) -> StoreAnswer:
        """See `pacs.archive.Archive.store`."""
        boundary = uuid.uuid4().hex
        size = body.size_of(parts, boundary)
        headers = self._headers | {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(size),
        }
        try:
            response = self._pool.request(
                "POST",
                self._url,
                # Ranges of files, too: the connections of `body.POOLS` know what to do with them.
                body=cast("Iterable[bytes]", body.pieces(parts, boundary)),
                headers=headers,
                timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout + size / _DIGESTED),
                redirect=False,
                preload_content=False,
            )
            drop_if_interim(response)
            try:
                answer = b"".join(_pieces(response, time.monotonic() + self._timeout))
            except BaseException:
                # Not back to the pool: the rest of the body would be taken for the next answer.
                response.close()
                raise
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise ArchiveUnavailableError(_reason(error)) from None
        return _parse(response.status, response.headers.getlist("Content-Type"), answer)

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()


def drop_if_interim(response: urllib3.BaseHTTPResponse) -> None:
    """End the connection of an interim answer, which http.client takes for the final one but for a 100.

    The final one follows (RFC 9110 section 15.2), and would be taken for that of the next request.
    """
    if response.status < _FINAL and response.connection is not None:
        response.connection.close()


def _pieces(response: urllib3.BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """All of the body, within the timeout as a whole: a byte now and then is no answer either."""
    size = 0
    while piece := response.read1(_CHUNK):
        size += len(piece)
        if size > _ANSWER_LIMIT:
            raise ArchiveUnavailableError("not-dicom-json")
        if time.monotonic() > deadline:
            raise ArchiveUnavailableError("timeout")
        yield piece


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return "unreachable"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "timeout"
    return "interrupted"


def _parse(status: int, content_types: Sequence[str], answer: bytes) -> StoreAnswer:
    if status == _TOO_LARGE:
        raise RequestTooLargeError
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise ArchiveUnavailableError("redirect")
    if status not in _ABOUT_THE_FILES:
        raise ArchiveUnavailableError(f"status-{status}")
    # With a 400 Orthanc sends no Content-Type (1.10), or that of its answer and text/plain (1.12; measured).
    media_types = {each.partition(";")[0].strip().lower() for each in content_types}
    if media_types and not media_types & _JSON_TYPES:
        raise ArchiveUnavailableError("not-dicom-json")
    dataset = _dataset(answer)
    # A bare `{}` is some proxy's: an archive lists what it stored and what it did not.
    if not dataset.keys() & _RESULTS:
        raise ArchiveUnavailableError("not-dicom-json")
    return StoreAnswer.parse(status, dataset)


def _dataset(answer: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except (ValueError, RecursionError):
        raise ArchiveUnavailableError("not-dicom-json") from None
    # PS3.18 section F.2 puts results into an array; some servers do so for this single one, too.
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    if not is_dataset(parsed):
        raise ArchiveUnavailableError("not-dicom-json")
    return parsed  # type: ignore[no-any-return]
