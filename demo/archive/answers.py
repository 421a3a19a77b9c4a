"""How the archive answers: DICOM JSON, problems, and the URLs inside of answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.archive.index import InstanceKey
    from pacs.ids import Uid

DICOM_JSON = "application/dicom+json"
_JSON_TYPES = (DICOM_JSON, "application/json")


def dicom_json(content: Any, status: int = 200) -> Response:
    """An answer in the DICOM JSON model."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, status=status, content_type=DICOM_JSON)


def problem(status: int, title: str, detail: str) -> Response:
    """An error (RFC 9457)."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Response(body, status=status, content_type="application/problem+json")


def accepts_json() -> bool:
    """Whether the client takes DICOM JSON: that is also what it gets when it does not say."""
    accepted = request.accept_mimetypes
    return not accepted or accepted.best_match(_JSON_TYPES) is not None


def study_url(study: Uid | str) -> str:
    """A study's URL as seen by the client: by the request's own Host header."""
    return f"{request.root_url.rstrip('/')}/dicom-web/studies/{study}"


def series_url(study: Uid | str, series: Uid | str) -> str:
    """A series' URL."""
    return f"{study_url(study)}/series/{series}"


def instance_url(key: InstanceKey) -> str:
    """An instance's URL."""
    return f"{series_url(key.study, key.series)}/instances/{key.sop}"


def element(vr: str, *values: Any) -> dict[str, Any]:
    """One element in the DICOM JSON model; without values it is empty."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def sequence(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A sequence in the DICOM JSON model."""
    return element("SQ", *items)
