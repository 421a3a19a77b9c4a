"""What a client accepts, parsed and made anew (PS3.18 sections 8.7.4 to 8.7.8, RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.paths import Kind, Target
from gateway.problems import BadRequest, NotAcceptable
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Iterator

DICOM_JSON = "application/dicom+json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
PDF = "application/pdf"
JPEG = "image/jpeg"
PNG = "image/png"
ANY = "*/*"
MULTIPART = "multipart/related"
ENCAPSULATED_DOCUMENT = "00420011"

_ACCEPT_MAX = 2048
_RANGES_MAX = 32
# A value with a slash outside of quotes is no token by RFC 9110, but it is what viewers send.
_PARAMETER = r'\s*;\s*([A-Za-z0-9-]+)\s*=\s*("[^"\\]*"|[^\s;,"]*)'
_RANGE = re.compile(
    rf"\s*([A-Za-z0-9*][A-Za-z0-9.+*-]*/[A-Za-z0-9*][A-Za-z0-9.+*-]*)((?:{_PARAMETER})*)\s*(,|$)"
)
_EACH_PARAMETER = re.compile(_PARAMETER)

# PS3.18 table 8.7.3-5, and the names that viewers used before it.
_PIXEL_TYPES = frozenset(
    {
        OCTETS, JPEG, "image/jls", "image/jp2", "image/jpx", "image/jphc", "image/jxl",
        "image/dicom-rle", "image/x-dicom-rle", "image/x-jls", "image/x-dicom+rle",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header, in lower case; `part_type` is the `type` of multipart/related."""

    media_type: str
    part_type: str
    transfer_syntax: str
    quality: float


@dataclass(frozen=True, slots=True)
class Representation:
    """How an answer is asked from the archive and handed on.

    `unwrap_as` is the media type that the single part of a multipart answer is handed on as; empty
    leaves the answer as it is. `transfer_syntax` is ``*``, a UID, or empty for the archive's default.
    """

    media_type: str
    multipart: bool = False
    transfer_syntax: str = ""
    unwrap_as: str = ""

    @property
    def accept(self) -> str:
        """The Accept header for the archive."""
        if not self.multipart:
            return self.media_type
        syntax = f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else ""
        return f'{MULTIPART}; type="{self.media_type}"{syntax}'

    @property
    def key(self) -> str:
        """The same as one path segment for `gateway.archive.accel`: ``multipart,image,jls,any``."""
        if not self.multipart:
            return f"single,{self.media_type.replace('/', ',')}"
        syntax = {"": "default", "*": "any"}.get(self.transfer_syntax, self.transfer_syntax)
        return f"multipart,{self.media_type.replace('/', ',')},{syntax}"


@lru_cache(256)
def parse_accept(text: str) -> tuple[MediaRange, ...]:
    """The media ranges of an Accept header, the most wanted first; none for an empty one.

    A viewer sends the same one with thousands of requests.

    Raises:
        BadRequest: it cannot be parsed.
    """
    if len(text) > _ACCEPT_MAX:
        raise BadRequest("The Accept header is too long.")
    ranges: list[MediaRange] = []
    position = 0
    while position < len(text):
        found = _RANGE.match(text, position)
        if found is None or len(ranges) >= _RANGES_MAX:
            raise BadRequest("The Accept header cannot be parsed.")
        ranges.append(_media_range(found[1], found[2]))
        position = found.end()
    return tuple(sorted((each for each in ranges if each.quality > 0), key=lambda each: -each.quality))


def _media_range(media_type: str, parameters: str) -> MediaRange:
    options = {name.lower(): value.strip('"') for name, value in _EACH_PARAMETER.findall(parameters)}
    try:
        quality = min(1.0, max(0.0, float(options.get("q", "1"))))
    except ValueError:
        quality = 0.0
    return MediaRange(
        media_type.lower(), options.get("type", "").lower(), options.get("transfer-syntax", ""), quality
    )


def negotiate(target: Target, accept: str) -> Representation:
    """The representation of a resource that suits the client best.

    Raises:
        BadRequest: `accept` cannot be parsed.
        NotAcceptable: nothing that is offered suits.
    """
    for each in parse_accept(accept if accept.strip() else ANY):
        for found in _offers(target, each):
            return found
    raise NotAcceptable(_OFFERED[target.kind])


def _offers(target: Target, wanted: MediaRange) -> Iterator[Representation]:
    match target.kind:
        case Kind.STUDIES | Kind.SERIES | Kind.INSTANCES | Kind.METADATA:
            if wanted.media_type in {DICOM_JSON, "application/json", "application/*", ANY}:
                yield Representation(DICOM_JSON)
        case Kind.RENDERED | Kind.THUMBNAIL:
            if wanted.media_type in {JPEG, "image/*", ANY}:
                yield Representation(JPEG)
            elif wanted.media_type == PNG:
                yield Representation(PNG)
        case Kind.RETRIEVE:
            yield from _parts(wanted, frozenset({DICOM}), DICOM, single=target.instance is not None)
        case Kind.FRAMES:
            yield from _parts(wanted, _PIXEL_TYPES, OCTETS, single=len(target.frames) == 1)
        case Kind.BULK:
            if wanted.media_type == PDF and target.bulk == ENCAPSULATED_DOCUMENT:
                yield Representation(OCTETS, multipart=True, unwrap_as=PDF)
            yield from _parts(wanted, frozenset({OCTETS}), OCTETS, single=True)


def _parts(
    wanted: MediaRange, offered: frozenset[str], default: str, *, single: bool
) -> Iterator[Representation]:
    """Representations that the archive sends as multipart/related.

    Whoever takes anything gets the data in the transfer syntax that it is stored in.
    """
    if wanted.media_type in {ANY, "multipart/*"} or (wanted.media_type == MULTIPART and not wanted.part_type):
        yield Representation(default, multipart=True, transfer_syntax="*")
        return
    is_multipart = wanted.media_type == MULTIPART
    part_type = wanted.part_type if is_multipart else wanted.media_type
    if part_type in {ANY, "application/*"}:
        part_type, syntax = default, wanted.transfer_syntax or "*"
    else:
        syntax = wanted.transfer_syntax
    if part_type in offered and _is_syntax(syntax) and (is_multipart or single):
        yield Representation(part_type, True, syntax, "" if is_multipart else part_type)


def _is_syntax(text: str) -> bool:
    try:
        return text in {"", "*"} or bool(Uid(text))
    except InvalidUidError:
        return False


_OFFERED = {
    **dict.fromkeys((Kind.STUDIES, Kind.SERIES, Kind.INSTANCES, Kind.METADATA), f"Offered: {DICOM_JSON}."),
    **dict.fromkeys((Kind.RENDERED, Kind.THUMBNAIL), f"Offered: {JPEG}, {PNG}."),
    Kind.RETRIEVE: f'Offered: {MULTIPART}; type="{DICOM}", and {DICOM} for an instance.',
    Kind.FRAMES: f'Offered: {MULTIPART}; type="{OCTETS}" or an image type, with any transfer-syntax.',
    Kind.BULK: f'Offered: {MULTIPART}; type="{OCTETS}", {OCTETS}, and {PDF} for an encapsulated document.',
}
