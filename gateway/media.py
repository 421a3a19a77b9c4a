"""What a client accepts, parsed and made anew (PS3.18 sections 8.7.4 to 8.7.8, RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from werkzeug.http import unquote_header_value

from gateway.paths import FILES, Kind, Target
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

ACCEPT_MAX = 2048
_RANGES_MAX = 32
# So often the archive is asked for one resource: what it cannot make may have cost it a decoding.
_FORMS_MAX = 4
# Each alternative begins with a character of its own, so that there is one way only to read a text.
_PIECE = re.compile(r'((?:[^",;]|"(?:[^"\\]|\\.)*")*)([,;]|\Z)', re.DOTALL)

# PS3.18 table 8.7.3-5, and the names that viewers used before it.
PIXEL_TYPES = frozenset(
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


def parse_accept(text: str) -> tuple[MediaRange, ...]:
    """The media ranges of an Accept header, the most wanted first; none for an empty one.

    What is no media range is ignored, an empty element above all (RFC 9110 section 5.6.1.2). `*` stands for
    `*/*`: Java sends it. A value may have a slash outside of quotes, as viewers send it: therefore this
    grammar, and not Werkzeug's, which cuts it off there.

    Raises:
        BadRequest: it is too long, or a quote in it never ends.
    """
    if len(text) > ACCEPT_MAX:
        raise BadRequest("The Accept header is too long.")
    found = [_media_range(each) for each in _elements(text)]
    ranges = [each for each in found if each.quality > 0]
    if len(ranges) > _RANGES_MAX:
        raise BadRequest("The Accept header names too many media types.")
    return tuple(sorted(ranges, key=lambda each: -each.quality))


def _elements(text: str) -> Iterator[list[str]]:
    """What stands between the commas, cut at its semicolons; within quotes neither of them counts."""
    element: list[str] = []
    position = 0
    while found := _PIECE.match(text, position):
        element.append(found[1].strip())
        if found[2] != ";":
            yield element
            element = []
        if not found[2]:
            return
        position = found.end()
    raise BadRequest("The Accept header cannot be parsed.")


def _media_range(element: list[str]) -> MediaRange:
    media_type, *parameters = element
    pairs = (each.partition("=") for each in parameters)
    options = {name.strip().lower(): unquote_header_value(value.strip()) for name, _, value in pairs}
    try:
        quality = min(1.0, max(0.0, float(options.get("q", "1"))))
    except ValueError:
        quality = 0.0
    return MediaRange(
        ANY if media_type == "*" else media_type.lower(),
        options.get("type", "").lower(),
        options.get("transfer-syntax", ""),
        quality if media_type else 0.0,
    )


def negotiate(target: Target, accept: str) -> tuple[Representation, ...]:
    """The representations of a resource that suit the client, the best first: at least one.

    Of those that are wanted alike, what is sent as it is stored comes first: it needs no decoding, and every
    archive has it.

    Raises:
        BadRequest: `accept` cannot be parsed.
        NotAcceptable: nothing that is offered suits.
    """
    is_single = len(target.frames) == 1 if target.kind is Kind.FRAMES else target.instance is not None
    return _negotiated(target.kind, accept, single=is_single, document=target.bulk == ENCAPSULATED_DOCUMENT)


# A viewer sends the same header with thousands of requests.
@lru_cache(256)
def _negotiated(kind: Kind, accept: str, *, single: bool, document: bool) -> tuple[Representation, ...]:
    wanted = parse_accept(accept if accept.strip(" \t,;") else ANY)
    offers = [
        (each, form) for each in wanted for form in _offers(kind, each, single=single, document=document)
    ]
    if not offers:
        raise NotAcceptable(_OFFERED[kind])
    if kind in FILES:
        offers.sort(key=lambda offer: (-offer[0].quality, offer[1].transfer_syntax != "*"))
    return tuple(dict.fromkeys(form for _, form in offers))[:_FORMS_MAX]


def _offers(kind: Kind, wanted: MediaRange, *, single: bool, document: bool) -> Iterator[Representation]:
    match kind:
        case Kind.STUDIES | Kind.SERIES | Kind.INSTANCES | Kind.METADATA:
            if wanted.media_type in {DICOM_JSON, "application/json", "application/*", ANY}:
                yield Representation(DICOM_JSON)
        case Kind.RENDERED | Kind.THUMBNAIL:
            if wanted.media_type in {JPEG, "image/*", ANY}:
                yield Representation(JPEG)
            elif wanted.media_type == PNG:
                yield Representation(PNG)
        case Kind.RETRIEVE:
            yield from _parts(wanted, frozenset({DICOM}), DICOM, single=single)
        case Kind.FRAMES:
            yield from _parts(wanted, PIXEL_TYPES, OCTETS, single=single)
        case Kind.BULK:
            if wanted.media_type == PDF and document:
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
