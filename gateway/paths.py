"""The resources under /dicom-web, parsed from the path of a request (PS3.18 section 10.1.1).

What is not parsed into a `Target` is not served, and only a `Target` is ever sent upstream: the archive
decodes `%5C` and `%2F` and resolves `..` before it routes (measured, Orthanc 1.10 and 1.12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.problems import MAX_URI, BadRequest, NotFound, UriTooLong
from pacs.ids import InvalidUidError, Uid

FRAMES_MAX = 1000
_FRAME = re.compile(r"[1-9][0-9]{0,6}")
_ENCODED = re.compile(r"%(?!2C)", re.IGNORECASE)
_BULK = re.compile(r"[0-9A-Fa-f]{8}(/[1-9][0-9]{0,5}/[0-9A-Fa-f]{8}){0,16}")


class Kind(StrEnum):
    """What a resource is; also the `route` of metrics and logs."""

    STUDIES = "search-studies"
    SERIES = "search-series"
    INSTANCES = "search-instances"
    RETRIEVE = "retrieve"
    METADATA = "metadata"
    FRAMES = "frames"
    RENDERED = "rendered"
    THUMBNAIL = "thumbnail"
    BULK = "bulk"


PICTURES = frozenset({Kind.RENDERED, Kind.THUMBNAIL})
FILES = frozenset({Kind.FRAMES, Kind.RETRIEVE})
"""What has a transfer syntax: as it is stored, or another one."""
_OF_PICTURES = {"rendered": Kind.RENDERED, "thumbnail": Kind.THUMBNAIL}


@dataclass(frozen=True, slots=True)
class Target:
    """One resource.

    `study` is None for the lists over all studies. `bulk` is the tag path of a bulk value,
    ``00420011`` or ``54000100/1/54001010``.
    """

    kind: Kind
    study: Uid | None = None
    series: Uid | None = None
    instance: Uid | None = None
    frames: tuple[int, ...] = ()
    bulk: str = ""

    def resource(self) -> str:
        """``/studies/...`` down to the instance and its frames, made of parsed values only."""
        path = f"/studies/{self.study}"
        if self.series:
            path += f"/series/{self.series}"
        if self.instance:
            path += f"/instances/{self.instance}"
        if self.frames:
            path += f"/frames/{','.join(map(str, self.frames))}"
        return path


def parse(tail: str) -> Target:
    """The resource that a decoded path below /dicom-web/ names.

    Raises:
        BadRequest: it has the shape of a resource, but a UID or a number in it is none.
        NotFound: there is no such resource here.
    """
    match tail.split("/"):
        case ["studies"]:
            return Target(Kind.STUDIES)
        case ["series"]:
            return Target(Kind.SERIES)
        case ["instances"]:
            return Target(Kind.INSTANCES)
        case ["studies", study, *rest]:
            return _in_study(_uid(study), rest)
    raise NotFound


def _in_study(study: Uid, rest: list[str]) -> Target:
    match rest:
        case []:
            return Target(Kind.RETRIEVE, study)
        case ["series"]:
            return Target(Kind.SERIES, study)
        case ["instances"]:
            return Target(Kind.INSTANCES, study)
        case ["metadata"]:
            return Target(Kind.METADATA, study)
        case ["rendered" | "thumbnail" as picture]:
            return Target(_OF_PICTURES[picture], study)
        case ["series", series, *deeper]:
            return _in_series(study, _uid(series), deeper)
    raise NotFound


def _in_series(study: Uid, series: Uid, rest: list[str]) -> Target:
    match rest:
        case []:
            return Target(Kind.RETRIEVE, study, series)
        case ["instances"]:
            return Target(Kind.INSTANCES, study, series)
        case ["metadata"]:
            return Target(Kind.METADATA, study, series)
        case ["rendered" | "thumbnail" as picture]:
            return Target(_OF_PICTURES[picture], study, series)
        case ["instances", instance, *deeper]:
            return _in_instance(Target(Kind.RETRIEVE, study, series, _uid(instance)), deeper)
    raise NotFound


def _in_instance(instance: Target, rest: list[str]) -> Target:
    uids = (instance.study, instance.series, instance.instance)
    match rest:
        case []:
            return instance
        case ["metadata"]:
            return Target(Kind.METADATA, *uids)
        case ["rendered" | "thumbnail" as picture]:
            return Target(_OF_PICTURES[picture], *uids)
        case ["frames", frames]:
            return Target(Kind.FRAMES, *uids, frames=_frames(frames))
        case ["frames", frames, "rendered" | "thumbnail" as picture]:
            return Target(_OF_PICTURES[picture], *uids, frames=_one_frame(frames))
        case ["bulk", *tags]:
            return Target(Kind.BULK, *uids, bulk=_bulk(tags))
    raise NotFound


def _uid(text: str) -> Uid:
    try:
        return Uid(text)
    except InvalidUidError as error:
        raise BadRequest(f"A part of the path is {error}.") from None


def _frames(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) > FRAMES_MAX or not all(_FRAME.fullmatch(part) for part in parts):
        raise BadRequest(f"Frames must be at most {FRAMES_MAX} whole numbers from 1, separated by commas.")
    numbers = tuple(int(part) for part in parts)
    if len(set(numbers)) < len(numbers):
        raise BadRequest("A frame is asked for more than once.")
    return numbers


def _one_frame(text: str) -> tuple[int, ...]:
    frames = _frames(text)
    if len(frames) > 1:
        raise BadRequest("Only one frame can be rendered at a time.")
    return frames


def _bulk(tags: list[str]) -> str:
    path = "/".join(tags)
    if not _BULK.fullmatch(path):
        raise NotFound
    return path.lower()


def check_raw_uri(environ: dict[str, Any]) -> None:
    """Refuse what needs no encoding but is encoded; the comma of a frame list may be.

    Every server decodes the path before it comes here, some of them only once. A segment that is parsed
    after that is safe by itself; this also refuses to guess what a slash or a backslash was meant for.
    The same goes for what is cut off before it is parsed, a fragment and a slash before the first one: nginx
    counts requests by what came (nginx/snippets/limits.conf).

    Raises:
        UriTooLong: path and query are.
        NotFound: the path holds an encoded character, or more was sent than is parsed.
    """
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    length = len(raw) or len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", ""))
    if length > MAX_URI:
        raise UriTooLong
    if "#" in raw or raw.startswith("//") or _ENCODED.search(raw.partition("?")[0]):
        raise NotFound
