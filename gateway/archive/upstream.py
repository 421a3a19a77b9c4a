"""Requests to the archive over pooled connections, answers as streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from gateway.archive.results import results
from gateway.places import Places
from gateway.problems import BadGateway, NotAcceptable, NotFound, Unavailable
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.places import Place
    from gateway.settings import GatewaySettings
    from pacs.archive.model import DicomJson

CHUNK = 1 << 16
_CONNECT_SECONDS = 5
_OK = 200
_UNAVAILABLE = frozenset({429, 503, 507})
_REFUSED = frozenset({400, 406, 415})
_NOT_FOUND = frozenset({404, 410})

_log = logs.get(__name__)


def forwarded_headers(public_url: str) -> dict[str, str]:
    """What the archive's own URLs follow, also Content-Location in the parts of an answer.

    Orthanc 1.10 knows the first only (measured).
    """
    public = urlsplit(public_url)
    return {
        "Forwarded": f"host={public.netloc};proto={public.scheme}",
        "X-Forwarded-Host": public.netloc,
        "X-Forwarded-Proto": public.scheme,
    }


def archive_places(threads: int) -> Places:
    """For the threads of one process that wait for the archive, whichever way they ask it.

    A quarter of them is left to what does not need it, and a quarter to others than one subject.
    """
    return Places(max(1, threads * 3 // 4), max(1, threads // 2), "Too many requests wait for the archive.")


class RefusedByArchive(NotAcceptable):
    """Not in the form that was asked for: 406, and also 400, which Orthanc says to well-formed requests."""

    def __init__(self) -> None:
        super().__init__("The archive cannot give this in the form that was asked for.")


class ArchiveStream:
    """A successful answer of the archive whose body was not read yet. Close it, whatever happens."""

    def __init__(self, response: urllib3.BaseHTTPResponse, place: Place) -> None:
        self._response = response
        self._place = place
        place.answered()

    def header(self, name: str) -> str:
        """A header's value; empty when it is absent."""
        return self._response.headers.get(name, "")

    def chunks(self) -> Iterator[bytes]:
        """The body, as fast as it is taken.

        Raises:
            urllib3.exceptions.HTTPError: the archive broke off; the server then cuts the client's
                connection, so that half an image is never taken for a whole one.
        """
        try:
            yield from self._response.stream(CHUNK, decode_content=False)
        except HTTPError as error:
            _log.warning("the archive broke off an answer", reason=type(error).__name__)
            raise

    def results(self) -> Iterator[DicomJson]:
        """The data sets of a list, one after another (`gateway.archive.results`).

        Raises:
            BadGateway: it is no list of data sets.
            Unavailable: the archive broke off.
        """
        try:
            yield from results(self.chunks())
        except HTTPError as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        """Give the connection back, or drop it when there is something left to read; and the place."""
        try:
            self._response.close()
        finally:
            self._place.give_back()


class Upstream:
    """The archive's DICOMweb root. Threads share one."""

    def __init__(self, settings: GatewaySettings, places: Places) -> None:
        self._url = settings.archive_url
        self._places = places
        self._thread = threading.local()
        self._pool = urllib3.PoolManager(
            maxsize=settings.gateway_threads,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=settings.archive_timeout_seconds),
            retries=False,
        )
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "clinicpacs"}
        self._headers |= forwarded_headers(settings.public_url)
        if settings.archive_username:
            password = settings.archive_password.get_secret_value()
            self._headers |= urllib3.make_headers(basic_auth=f"{settings.archive_username}:{password}")

    def serve(self, subject: str) -> None:
        """Whatever this thread asks from now on is for that subject."""
        self._thread.subject = subject

    def place(self) -> Place:
        """Have this thread's place before `open` does: for what waits for something else first.

        Raises:
            Unavailable: there is none.
        """
        return self._places.take(self._thread.subject)

    def open(self, path: str, query: str, accept: str) -> ArchiveStream:
        """Ask for a resource, `path` and `query` made of parsed values.

        Raises:
            NotFound: the archive has none such.
            RefusedByArchive: it may have it, but not in this representation.
            BadGateway: it failed.
            Unavailable: it gave no answer, or too many wait for one.
        """
        url = f"{self._url}{path}?{query}" if query else f"{self._url}{path}"
        place = self.place()
        try:
            response = asked(self._pool, "GET", url, self._headers | {"Accept": accept})
        except BaseException:
            place.give_back()
            raise
        stream, status = ArchiveStream(response, place), response.status
        if status == _OK:
            return stream
        stream.close()
        if status in _NOT_FOUND:
            raise NotFound
        if status in _REFUSED:
            raise RefusedByArchive
        _log.warning("the archive failed", status=status)
        if status in _UNAVAILABLE:
            raise Unavailable("The archive is busy or down.")
        raise BadGateway

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()


def asked(
    pool: urllib3.PoolManager,
    method: str,
    url: str,
    headers: dict[str, str],
    *,
    body: Iterable[bytes] | None = None,
    is_read: bool = True,
) -> urllib3.BaseHTTPResponse:
    """The archive's answer, its body not read yet; what only reads is asked twice before it fails.

    Raises:
        Unavailable: it gave no answer.
    """

    def ask() -> urllib3.BaseHTTPResponse:
        return pool.request(method, url, headers=headers, body=body, redirect=False, preload_content=False)

    try:
        try:
            return ask()
        except ProtocolError:
            # The archive may close a kept connection at the moment it is used again (Orthanc: after 1 s).
            if not is_read:
                raise
            return ask()
    except HTTPError as error:
        raise _unavailable(error) from None


def _unavailable(error: HTTPError) -> Unavailable:
    _log.warning("the archive cannot be reached", reason=type(error).__name__)
    return Unavailable("The archive cannot be reached.")
