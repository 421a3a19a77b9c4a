"""The archive's answers on their way through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug import Response

from gateway.media import MULTIPART, Representation
from gateway.problems import BadGateway
from pacs.archive.multipart import MultipartError, boundary_of, only_part

if TYPE_CHECKING:
    from gateway.archive.upstream import ArchiveStream

# Viewers fetch these. A browser that is led here shows no stranger's document as a page of ours.
_TO_BE_SAVED = {"Content-Disposition": "attachment"}


def check_type(stream: ArchiveStream, expected: frozenset[str]) -> None:
    """Close an answer that is none of these media types.

    Raises:
        BadGateway: it was closed.
    """
    if stream.header("Content-Type").partition(";")[0].strip().lower() not in expected:
        stream.close()
        raise BadGateway


def streamed(stream: ArchiveStream, representation: Representation) -> Response:
    """The archive's answer on its way through; nothing of its headers but type and length."""
    content_type = stream.header("Content-Type")
    if not representation.multipart:
        check_type(stream, frozenset({representation.media_type}))
        return _body(stream, representation.media_type)
    try:
        boundary = boundary_of(content_type)
        if representation.unwrap_as:
            content = only_part(stream.chunks(), boundary)
            return Response(content, content_type=representation.unwrap_as, headers=_TO_BE_SAVED)
    except MultipartError:
        raise BadGateway from None
    part_type = content_type.partition('type="')[2].partition('"')[0].partition(";")[0]
    shown = part_type if _is_plain(part_type) else representation.media_type
    return _body(stream, f'{MULTIPART}; type="{shown}"; boundary={boundary.decode("ascii")}')


def _is_plain(media_type: str) -> bool:
    kind, _, rest = media_type.partition("/")
    return kind in {"application", "image", "video"} and rest.replace("-", "").replace("+", "").isalnum()


def _body(stream: ArchiveStream, content_type: str) -> Response:
    response = Response(stream.chunks(), content_type=content_type)
    length = stream.header("Content-Length")
    if length.isdecimal():
        response.headers["Content-Length"] = length
    return response
