"""URLs in the archive's answers, replaced by ours: nobody outside learns where the archive is.

Of an address of the archive only the tail `/studies/...` counts, and only when it parses.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gateway.paths import Kind, parse
from gateway.problems import BadGateway, Problem
from pacs.archive.model import uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
_TAIL = re.compile(r"[^?#]*?/(studies/[^?#]*)")


def public_bulk_url(uri: str, public_root: str) -> str | None:
    """Our address of a bulk value, from the archive's; None when it is not understood."""
    found = _TAIL.fullmatch(uri)
    if found is None:
        return None
    try:
        target = parse(found[1])
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


def rewrite_search(body: bytes, public_root: str, study: Uid, series: Uid | None) -> list[dict[str, Any]]:
    """The results of a search of series or instances, of the authorised study and series only.

    Raises:
        BadGateway: the archive's answer is no list of DICOM JSON data sets.
    """
    try:
        results = json.loads(body) if body.strip() else []
    except (ValueError, RecursionError):
        raise BadGateway from None
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise BadGateway
    found = (_result(each, public_root, study, series) for each in results)
    return [each for each in found if each is not None]


def _result(
    dataset: dict[str, Any], public_root: str, study: Uid, series: Uid | None
) -> dict[str, Any] | None:
    series_uid = uid(dataset, SERIES_UID)
    if series_uid is None or (series and series_uid != series):
        return None
    if STUDY_UID in dataset and uid(dataset, STUDY_UID) != study:
        return None
    url = f"{public_root}/studies/{study}/series/{series_uid}"
    if instance := uid(dataset, INSTANCE_UID):
        url += f"/instances/{instance}"
    rest = {tag: _without_addresses(element) for tag, element in dataset.items()}
    rest |= {RETRIEVE_URL: {"vr": "UR", "Value": [url]}, STUDY_UID: {"vr": "UI", "Value": [study]}}
    return dict(sorted(rest.items()))


def _without_addresses(element: Any) -> Any:
    """Search results need no bulk values; whatever address one bears is the archive's own."""
    if isinstance(element, dict):
        return {key: _without_addresses(value) for key, value in element.items() if key != "BulkDataURI"}
    if isinstance(element, list):
        return [_without_addresses(each) for each in element]
    return element
