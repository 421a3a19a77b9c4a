"""What a client accepts of WADO-RS (PS3.18 section 8.7.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import parse_http_list

from flask import request

from demo.archive.errors import RequestError
from demo.archive.media import parse_media_type

if TYPE_CHECKING:
    from collections.abc import Collection

MULTIPART = "multipart/related"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
ANYTHING = "*/*"


@dataclass(frozen=True)
class Accepted:
    """One media range: the type of the answer or, for multipart/related, of its parts."""

    is_multipart: bool
    media_type: str
    transfer_syntax: str

    def takes(self, media_type: str, transfer_syntax: str = "") -> bool:
        """Whether this range covers a representation; without a transfer syntax it covers the stored one."""
        kind = media_type.split("/", maxsplit=1)[0]
        return self.media_type in {ANYTHING, media_type, f"{kind}/*"} and (
            self.transfer_syntax in {"", "*", transfer_syntax}
        )


def accepted() -> list[Accepted]:
    """What the request accepts, the best first: the ``accept`` parameter, else the header, else anything."""
    text = request.args.get("accept") or request.headers.get("Accept") or ANYTHING
    ranges = [parse_media_type(each) for each in parse_http_list(text)]
    ranked = [(_quality(options), media_type, options) for media_type, options in ranges]
    ranked.sort(key=lambda each: -each[0])
    return [_range(media_type, options) for quality, media_type, options in ranked if quality > 0]


def _quality(options: dict[str, str]) -> float:
    try:
        return float(options.get("q", "1"))
    except ValueError:
        return 0


def _range(media_type: str, options: dict[str, str]) -> Accepted:
    is_multipart = media_type in {MULTIPART, "multipart/*"}
    return Accepted(
        is_multipart=is_multipart or media_type == ANYTHING,
        media_type=options.get("type", ANYTHING).lower() if is_multipart else media_type,
        transfer_syntax=options.get("transfer-syntax", ""),
    )


def choose(offers: Collection[tuple[str, str]], *, single: bool) -> tuple[Accepted, str]:
    """The best accepted range and the offered media type that it takes.

    Args:
        offers: media types with their transfer syntax, the preferred first.
        single: whether the answer could also go without multipart.

    Raises:
        RequestError: 406 when nothing that is offered is accepted.
    """
    for each in accepted():
        for media_type, syntax in offers:
            if (each.is_multipart or single) and each.takes(media_type, syntax):
                return each, media_type
    raise RequestError(406, "offered: " + ", ".join(sorted({media_type for media_type, _ in offers})))
