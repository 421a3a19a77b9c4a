"""Search results in the DICOM JSON model (PS3.18 annex F), and what is to be said about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flask import Response

from gateway.media import DICOM_JSON
from pacs.catalog import prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.qido.search import FoundStudy

WARNING_UNSUPPORTED = "These parameters are not supported and were ignored: {}"
WARNING_MORE = "There are additional results that can be requested"


def studies_response(found: Iterable[FoundStudy], public_root: str, warnings: Sequence[str]) -> Response:
    """The answer to a search for studies, put together from what was prepared of each."""
    root = f"{public_root}/studies"
    listed = (prepared.with_address(each.prepared, f"{root}/{each.study_uid}") for each in found)
    return _response(f"[{','.join(listed)}]", warnings)


def search_response(results: Iterable[dict[str, Any]], warnings: Sequence[str]) -> Response:
    """The answer to a search; each warning goes into a Warning header (PS3.18 section 8.3.4, RFC 7234)."""
    return _response(json.dumps(list(results), ensure_ascii=False, separators=(",", ":")), warnings)


def _response(body: str, warnings: Sequence[str]) -> Response:
    response = Response(body, content_type=DICOM_JSON)
    for warning in warnings:
        response.headers.add("Warning", f'299 clinicpacs "{warning}"')
    return response
