"""URLs in the archive's answers, replaced by ours: nobody outside learns where the archive is.

Of an address of the archive only the tail `/studies/...` counts, and only when it parses.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from gateway.paths import Kind, parse
from gateway.problems import BadGateway, Problem
from pacs.archive.model import uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pacs.archive.model import DicomJson
    from pacs.ids import Uid

RETRIEVE_URL = "00081190"
STUDY_UID = "0020000D"
SERIES_UID = "0020000E"
INSTANCE_UID = "00080018"
INSTANCE_COUNT = "00201209"
_KEY = b'"BulkDataURI"'
# In JSON a quote inside of a string is always escaped, so this never starts within a value.
_MEMBER = re.compile(rb'"BulkDataURI"\s*:\s*"((?:[^"\\]|\\.)*)"')
_BEGUN = re.compile(rb'"BulkDataURI"\s*(?::\s*(?:"(?:[^"\\]|\\.)*\\?)?)?')
_MEMBER_MAX = 8192


def public_bulk_url(uri: str, public_root: str) -> str | None:
    """Our address of a bulk value, from the archive's; None when it is not understood."""
    try:
        target = parse(f"studies/{uri.partition('/studies/')[2]}")
    except Problem:
        return None
    if target.kind is not Kind.BULK:
        return None
    return f"{public_root}{target.resource()}/bulk/{target.bulk}"


def rewrite_metadata(chunks: Iterable[bytes], public_root: str) -> Iterator[bytes]:
    """Metadata (DICOM JSON) on its way through, with our addresses of the bulk values.

    An address that is not understood becomes an empty inline value (PS3.18 section F.2.7).

    Args:
        chunks: the body, cut anywhere.
        public_root: PUBLIC_URL/dicom-web.
    """

    def replace(found: re.Match[bytes]) -> bytes:
        try:
            uri = json.loads(b'"' + found[1] + b'"')
        except ValueError:
            uri = ""
        url = public_bulk_url(uri, public_root)
        return b'"InlineBinary":""' if url is None else b'"BulkDataURI":' + json.dumps(url).encode()

    held = b""
    for chunk in chunks:
        text = _MEMBER.sub(replace, held + chunk)
        cut = _safe_cut(text)
        held = text[cut:]
        if len(held) > _MEMBER_MAX:
            raise BadGateway
        if cut:
            yield text[:cut]
    if _KEY in held:
        raise BadGateway
    yield held


def _safe_cut(text: bytes) -> int:
    """Where a member that is not complete yet may begin."""
    position = text.rfind(_KEY)
    if position >= 0 and _BEGUN.fullmatch(text, position):
        return position
    for length in range(min(len(_KEY) - 1, len(text)), 0, -1):
        if text.endswith(_KEY[:length]):
            return len(text) - length
    return len(text)


def rewrite_result(dataset: DicomJson, public_root: str, study: Uid, series: Uid | None) -> DicomJson | None:
    """One result of a search for series or instances, with our address of it.

    None when it is not of the authorised study and series.
    """
    series_uid = uid(dataset, SERIES_UID)
    if series_uid is None or (series and series_uid != series):
        return None
    if STUDY_UID in dataset and uid(dataset, STUDY_UID) != study:
        return None
    url = f"{public_root}/studies/{study}/series/{series_uid}"
    if instance := uid(dataset, INSTANCE_UID):
        url += f"/instances/{instance}"
    ours = {RETRIEVE_URL: {"vr": "UR", "Value": [url]}, STUDY_UID: {"vr": "UI", "Value": [study]}}
    return dict(sorted((dataset | ours).items()))
