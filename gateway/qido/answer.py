"""Search results in the DICOM JSON model (PS3.18 annex F), and what is to be said about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from werkzeug import Response

from gateway.media import DICOM_JSON
from pacs.catalog import prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.qido.search import FoundStudy
    from pacs.archive.model import DicomJson

SEARCH_RESULTS_MAX = 10_000
SEARCH_BYTES_MAX = 32 << 20
_BLOCK = 1 << 20
WARNING_UNSUPPORTED = "These parameters are not supported and were ignored: {}"
WARNING_MORE = "There are additional results that can be requested"


def studies_response(found: Iterable[FoundStudy], public_root: str, warnings: Sequence[str]) -> Response:
    """The answer to a search for studies, put together from what was prepared of each."""
    root = f"{public_root}/studies"
    listed = (prepared.with_address(each.prepared, f"{root}/{each.study_uid}") for each in found)
    return _response(f"[{','.join(listed)}]", warnings)


def search_response(results: Iterable[DicomJson], warnings: Sequence[str]) -> Response:
    """The answer to a search in a study: at most `SEARCH_RESULTS_MAX` results in `SEARCH_BYTES_MAX` bytes.

    They are taken one after another and kept in blocks, so that such an answer costs its own bytes and no
    more. A study of 5,000 slices has room in it, with all of their attributes too (22 MB). What is left out
    can be asked for by `offset`, and the answer says so (PS3.18 section 8.3.4.4).
    """
    blocks: list[bytes] = []
    block, room = bytearray(b"["), SEARCH_BYTES_MAX
    for number, each in enumerate(results):
        text = json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        room -= len(text) + 1
        if number >= SEARCH_RESULTS_MAX or (number and room < 0):
            warnings = [*warnings, WARNING_MORE]
            break
        if number:
            block += b","
        block += text
        if len(block) > _BLOCK:
            blocks.append(bytes(block))
            block.clear()
    return _response([*blocks, bytes(block + b"]")], warnings)


def _response(body: str | list[bytes], warnings: Sequence[str]) -> Response:
    """Each warning goes into a Warning header (PS3.18 section 8.3.4, RFC 7234)."""
    response = Response(body, content_type=DICOM_JSON)
    for warning in warnings:
        response.headers.add("Warning", f'299 clinicpacs "{warning}"')
    return response
