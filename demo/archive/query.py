"""QIDO-RS parameters, parsed (PS3.18 section 8.3.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.archive.attributes import (
    INDEXED,
    MODALITIES_IN_STUDY,
    Level,
    levels_through,
    parse_attribute,
    value_representation,
)
from demo.archive.errors import RequestError

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from pacs.ids import Uid

_MAX_LIST = 10_000
_OTHER_PARAMETERS = frozenset({"limit", "offset", "includefield", "fuzzymatching"})
_DATE_OR_TIME = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")


@dataclass(frozen=True)
class AnyOf:
    """Equal to one of these texts."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Between:
    """A date or time within bounds; None is open."""

    low: str | None
    high: str | None


@dataclass(frozen=True)
class Wildcard:
    """Like a pattern of ``*`` and ``?``."""

    pattern: str


Match = AnyOf | Between | Wildcard


@dataclass(frozen=True)
class Query:
    """A search on one level, within a study or series or everywhere."""

    level: Level
    study: Uid | None
    series: Uid | None
    matches: tuple[tuple[str, Match], ...]
    include: frozenset[str]
    include_all: bool
    limit: int | None
    offset: int


def parse_query(
    level: Level, arguments: MultiDict[str, str], study: Uid | None = None, series: Uid | None = None
) -> Query:
    """The query that a URL's parameters stand for.

    Raises:
        RequestError: 400 for a parameter that is malformed or that is not searched for on this level.
    """
    names = [name for field in arguments.getlist("includefield") for name in field.split(",") if name]
    matches = tuple(
        (tag, match)
        for name, value in arguments.items(multi=True)
        if name not in _OTHER_PARAMETERS
        if (match := _parse_match(tag := _matched_attribute(level, name), value)) is not None
    )
    return Query(
        level,
        study,
        series,
        matches,
        include=frozenset(_attribute(name) for name in names if name != "all"),
        include_all="all" in names,
        limit=_number(arguments, "limit"),
        offset=_number(arguments, "offset") or 0,
    )


def _attribute(name: str) -> str:
    tag = parse_attribute(name)
    if tag is None:
        raise RequestError(400, "an attribute is named neither by a keyword nor by a tag")
    return tag


def _matched_attribute(level: Level, name: str) -> str:
    tag = _attribute(name)
    if tag != MODALITIES_IN_STUDY and not any(tag in INDEXED[each] for each in levels_through(level)):
        raise RequestError(400, f"{tag} is not searched for on this level")
    return tag


def _number(arguments: MultiDict[str, str], name: str) -> int | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise RequestError(400, f"{name} is not a whole number")
    return int(value)


def _parse_match(tag: str, value: str) -> Match | None:
    """What a value asks for; None where it matches everything."""
    vr = value_representation(tag)
    if vr in {"DA", "TM"}:
        return _parse_range(value)
    value = value.casefold().rstrip()
    if vr in {"UI", "CS"}:
        values = tuple(filter(None, re.split(r"[,\\]", value)))
        if len(values) > _MAX_LIST:
            raise RequestError(400, f"a list may have {_MAX_LIST} values")
        if len(values) > 1 or vr == "UI":
            return AnyOf(values) if values else None
    if not value.strip("*"):
        return None
    return Wildcard(value) if "*" in value or "?" in value else AnyOf((value,))


def _parse_range(value: str) -> Match | None:
    value = value.strip().replace(":", "")
    if not value or value == "-":
        return None
    low, dash, high = value.partition("-")
    if any(bound and not _DATE_OR_TIME.fullmatch(bound) for bound in (low, high)):
        raise RequestError(400, "a date or time is malformed")
    return Between(low or None, high or None) if dash else AnyOf((low,))
