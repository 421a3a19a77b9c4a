"""Requests to the archive's REST API as its user `admin`, made of parsed parts, bodies streamed both ways."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import urllib3

from gateway.archive.upstream import ArchiveStream, asked, forwarded_headers
from gateway.explorer.paths import ROOT, ArchivePath, parse_query
from gateway.problems import BadGateway, Problem
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from werkzeug.datastructures import Headers

    from gateway.places import Place, Places
    from gateway.settings import GatewaySettings

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
WITH_BODY = frozenset({"POST", "PUT"})
REQUEST_HEADERS = (
    "Accept", "Accept-Language", "Content-Encoding", "Content-Type", "If-Match", "If-Modified-Since",
    "If-None-Match", "Range",
)  # fmt: skip
"""What is passed on; no cookie, no token, no X-HTTP-Method-Override, nothing about other hosts."""
ANSWER_HEADERS = (
    "Accept-Ranges", "Allow", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Range",
    "Content-Type", "ETag", "Last-Modified",
)  # fmt: skip
_PLAIN = re.compile(r"[\x20-\x7e]{1,1000}")
_CONNECT_SECONDS = 5
# Deleting a large study or writing a job's archive takes the archive a while before its first byte.
_SILENCE_SECONDS = 300
_UNAUTHORIZED = 401
_ADMINISTRATORS = ""
"""No token's subject: all of them share one's places, as the archive may be silent for so long."""

_log = logs.get(__name__)


@dataclass(frozen=True)
class Question:
    """One request: `query` from `parse_query`, `headers` and `body` as the client sent them."""

    method: str
    path: ArchivePath
    query: str
    headers: Headers
    body: Iterable[bytes] | None = None
    length: int | None = None


class Answer(ArchiveStream):
    """The archive's answer, its body not read yet. Close it, whatever happens."""

    def __init__(self, response: urllib3.BaseHTTPResponse, place: Place) -> None:
        super().__init__(response, place)
        self.status = response.status
        self.headers: dict[str, str] = {}


class AdministeredArchive:
    """The root of the archive's REST API. Threads share one."""

    def __init__(self, settings: GatewaySettings, places: Places) -> None:
        self._places = places
        self._url = settings.orthanc_url
        self._public_url = settings.public_url
        self._reading = _connections(settings.gateway_threads)
        password = settings.orthanc_admin_password.get_secret_value()
        self._headers = (
            {"Accept-Encoding": "identity", "User-Agent": "clinicpacs"}
            | forwarded_headers(settings.public_url)
            | urllib3.make_headers(basic_auth=f"{settings.orthanc_admin_username}:{password}")
        )

    def ask(self, question: Question) -> Answer:
        """Put a question to the archive; its errors are answers too.

        Raises:
            BadGateway: it does not know us, or sends the browser somewhere else.
            Unavailable: it gave no answer, or too many wait for one.
        """
        place = self._places.take(_ADMINISTRATORS)
        try:
            response = self._request(question)
        except BaseException:
            place.give_back()
            raise
        answer = Answer(response, place)
        try:
            answer.headers = self._passed_on(response, question)
        except BaseException:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Drop the connections."""
        self._reading.clear()

    def _request(self, question: Question) -> urllib3.BaseHTTPResponse:
        is_read = question.method in {"GET", "HEAD"}
        return asked(
            # A kept connection may be closed just when it is used again, and a change must not be sent twice.
            # Orthanc closes one that we asked it not to keep, and says that it keeps it (measured, 1.10.1).
            self._reading if is_read else _connections(1),
            # Orthanc answers 404 to every HEAD.
            "GET" if is_read else question.method,
            f"{self._url}{question.path}{f'?{question.query}' if question.query else ''}",
            self._sent(question, keep=is_read),
            body=question.body,
            is_read=is_read,
        )

    def _sent(self, question: Question, *, keep: bool) -> dict[str, str]:
        asked = {name: question.headers.get(name, "") for name in REQUEST_HEADERS}
        sent = {name: value for name, value in asked.items() if _PLAIN.fullmatch(value)}
        if question.length is not None:
            sent["Content-Length"] = str(question.length)
        if not keep:
            sent["Connection"] = "close"
        return sent | self._headers

    def _passed_on(self, response: urllib3.BaseHTTPResponse, question: Question) -> dict[str, str]:
        if response.status == _UNAUTHORIZED:
            # Passed on, a browser would ask the person for the archive's own password.
            _log.error("the archive does not know the administrator's user", setting="ORTHANC_ADMIN_PASSWORD")
            raise BadGateway
        headers = {name: response.headers[name] for name in ANSWER_HEADERS if name in response.headers}
        if location := response.headers.get("Location", ""):
            headers["Location"] = self._public_location(location, question.path)
        return headers

    def _public_location(self, location: str, path: ArchivePath) -> str:
        """Where the archive sends the browser, as an address below /orthanc."""
        try:
            url = urljoin(f"{self._url}{path}", location)
            parts = urlsplit(url)
            root = next(each for each in (self._url, self._public_url) if url.startswith(f"{each}/"))
            tail = parts.path.removeprefix(urlsplit(root).path).removeprefix("/")
            query = parse_query(parts.query)
            return f"{ROOT}{ArchivePath.parse(tail)}{f'?{query}' if query else ''}"
        except (ValueError, StopIteration, Problem):
            _log.warning("the archive redirects to somewhere else", status=BadGateway.status)
            raise BadGateway from None


def _connections(kept: int) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_SILENCE_SECONDS)
    return urllib3.PoolManager(maxsize=kept, timeout=timeout, retries=False)
