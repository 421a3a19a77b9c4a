"""What the archive lists, one result after another: the list is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from gateway.problems import BadGateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pacs.archive.model import DicomJson

RESULT_MAX = 1 << 20
"""Characters of one result: a hundred times what Orthanc says of an instance."""
_FIRST, _NEXT = re.compile(r"\s*\[\s*"), re.compile(r"\s*,\s*")
_NONE, _END = re.compile(r"\s*(?:\[\s*\]\s*)?"), re.compile(r"\s*\]\s*")


def _without_address(member: dict[str, Any]) -> dict[str, Any]:
    """Results need no bulk values; whatever address one bears is the archive's own."""
    member.pop("BulkDataURI", None)
    return member


_DECODER = json.JSONDecoder(object_hook=_without_address)


def results(chunks: Iterable[bytes]) -> Iterator[DicomJson]:
    """The data sets of an array in DICOM JSON (PS3.18 annex F), without addresses of bulk values.

    Args:
        chunks: the body, cut anywhere.

    Raises:
        BadGateway: it is no such array, or a data set of it is longer than `RESULT_MAX`.
    """
    held, before, after = "", _FIRST, _NONE
    for chunk in _decoded(chunks):
        held += chunk
        position = 0
        while found := _result(held, before, position):
            dataset, position = found
            before, after = _NEXT, _END
            yield dataset
        held = held[position:]
        if len(held) > RESULT_MAX:
            raise BadGateway
    if not after.fullmatch(held):
        raise BadGateway


def _decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    try:
        yield from codecs.iterdecode(chunks, "utf-8")
    except UnicodeDecodeError:
        raise BadGateway from None


def _result(held: str, before: re.Pattern[str], position: int) -> tuple[DicomJson, int] | None:
    """The data set that begins here, and where it ends; None when it is not there as a whole."""
    start = before.match(held, position)
    if start is None or not held.startswith("{", start.end()):
        return None
    try:
        return _DECODER.raw_decode(held, start.end())
    except ValueError:
        return None
    except RecursionError:
        raise BadGateway from None
