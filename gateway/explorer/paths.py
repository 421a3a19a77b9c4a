"""Addresses below /orthanc, parsed and built anew: nothing of the client's URL is passed on as it came."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote_to_bytes

from gateway.problems import BadRequest, NotFound

ROOT = "/orthanc"
_SEGMENT = re.compile(r"[A-Za-z0-9._,@-]{1,200}")
_SEGMENTS_MAX = 40
_PAIRS_MAX = 100
# A `;` within a value has a meaning to Orthanc's /changes only as it is; the others are for the reader.
_PLAIN_IN_VALUES = ";,:/"


@dataclass(frozen=True, slots=True)
class ArchivePath:
    """A path of the archive's REST API; made by `parse` only."""

    segments: tuple[str, ...]
    is_folder: bool

    @classmethod
    def parse(cls, tail: str) -> Self:
        """The path that `tail`, decoded and without its leading slash, names.

        Orthanc decodes a path once more, resolves `..` in it and takes a backslash for a slash (measured):
        such characters are in none of its addresses, and not here.

        Raises:
            NotFound: it is no path of the archive.
        """
        segments = tail.split("/")
        is_folder = segments[-1] == ""
        if is_folder:
            segments.pop()
        if len(segments) > _SEGMENTS_MAX or not all(_is_plain(each) for each in segments):
            raise NotFound
        return cls(tuple(segments), is_folder)

    def __str__(self) -> str:
        slash = "/" if self.is_folder and self.segments else ""
        return f"/{'/'.join(self.segments)}{slash}"

    @property
    def is_explorers_own(self) -> bool:
        """Whether it is a file of the web application, and not something that came out of an image."""
        return self.segments[:1] == ("app",) or self.segments[:2] == ("ui", "app")


def _is_plain(segment: str) -> bool:
    return _SEGMENT.fullmatch(segment) is not None and segment.strip(".") != ""


def parse_query(raw: str) -> str:
    """A query string with the same names and values, encoded anew.

    Raises:
        BadRequest: it is too long or no text, or would have the archive take the request for another method.
    """
    pairs = [each for each in raw.split("&") if each]
    if len(pairs) > _PAIRS_MAX:
        raise BadRequest("The query has too many parameters.")
    return "&".join(_pair(each) for each in pairs)


def _pair(raw: str) -> str:
    raw_name, equals, raw_value = raw.partition("=")
    name, value = _decoded(raw_name), _decoded(raw_value)
    # Orthanc honours it on any GET, whatever its case may be in a later version. Dropping it unsaid would
    # answer something else than was asked for.
    if name.strip().lower() == "_method":
        raise BadRequest("Send the method itself, not _method.")
    return f"{quote(name, safe='')}{equals}{quote(value, safe=_PLAIN_IN_VALUES)}"


def _decoded(raw: str) -> str:
    try:
        text = unquote_to_bytes(raw.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise BadRequest("The query is not UTF-8.") from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise BadRequest("The query holds control characters.")
    return text
