"""Removes studies, which PS3.18 has no transaction for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from pacs.archive.protocol import ArchiveUnavailableError

if TYPE_CHECKING:
    from pacs.ids import Uid

_NOT_FOUND = 404
_ORTHANC_ID = re.compile(r"[0-9a-f-]{1,64}")


class RemovalClient:
    """Asks one DICOMweb root; `session` knows who we are, `timeout` is in seconds."""

    def __init__(self, session: requests.Session, url: str, timeout: float) -> None:
        self._session, self._url, self._timeout = session, url, timeout

    def delete(self, study_uid: Uid) -> None:
        """See `pacs.archive.Archive.delete`.

        Orthanc is asked by its REST API; another archive by DELETE of the study's DICOMweb address, which
        several know.
        """
        listed = self._ask("POST", f"{rest_root(self._url)}tools/lookup", study_uid)
        if listed is None:
            self._ask("DELETE", f"{self._url}/studies/{study_uid}")
            return
        for each in _studies(listed):
            self._ask("DELETE", f"{rest_root(self._url)}studies/{each}")

    def _ask(self, method: str, url: str, body: str | None = None) -> bytes | None:
        """What is answered; None when there is no such thing."""
        try:
            answer = self._session.request(method, url, data=body, timeout=self._timeout)
            if answer.status_code == _NOT_FOUND:
                return None
            answer.raise_for_status()
        except requests.RequestException as error:
            raise ArchiveUnavailableError(reason(error)) from None
        return answer.content


def rest_root(url: str) -> str:
    """Where Orthanc's REST API is, if the DICOMweb root at `url` is Orthanc's; with a slash at its end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _studies(listed: bytes) -> list[str]:
    """Orthanc's own identifiers of the studies in an answer of /tools/lookup."""
    try:
        found = [each["ID"] for each in json.loads(listed) if each["Type"] == "Study"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise ArchiveUnavailableError("not-dicom-json") from None
    return [each for each in found if isinstance(each, str) and _ORTHANC_ID.fullmatch(each)]


def reason(error: requests.RequestException) -> str:
    """The short code of an `ArchiveUnavailableError`."""
    if isinstance(error, requests.TooManyRedirects):
        return "redirect"
    if isinstance(error, requests.Timeout):
        return "timeout"
    if isinstance(error, requests.ConnectionError):
        return "unreachable"
    if error.response is not None:
        return f"status-{error.response.status_code}"
    return "interrupted"
