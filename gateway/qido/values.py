"""Matching values by type (PS3.4 section C.2.2.2), as conditions that know no database.

Condition = UidIn | TextIn | NameLike | Between | DateTimeBetween
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from gateway.problems import BadRequest
from pacs.ids import InvalidUidError, Uid
from pacs.text import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_UIDS_MAX = 1000
_ALTERNATIVES_MAX = 100
_WILDCARDS_MAX = 32
_PARTS_MAX = 16
EMPTY = '""'
"""The value that empty value matching looks for (PS3.4 section C.2.2.2.7)."""

_ANY_RUN: Literal["*"] = "*"
_ANY_ONE: Literal["?"] = "?"


@dataclass(frozen=True)
class Wildcard:
    """``*`` or ``?`` in a pattern, as opposed to text."""

    kind: Literal["*", "?"]


Pattern = tuple[str | Wildcard, ...]
"""Text and wild cards in turn; without wild cards the value is to be the same."""


@dataclass(frozen=True)
class UidIn:
    """List of UID matching (PS3.4 section C.2.2.2.2)."""

    attribute: str
    uids: frozenset[Uid]


@dataclass(frozen=True)
class TextIn:
    """Single value and wild card matching: one of the patterns fits the whole value, or one of its values."""

    attribute: str
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True)
class NameLike:
    """Person name matching, without case and accents: of each of `groups` one pattern fits a component group.

    The empty pattern fits a name that is empty as a whole. `words` is fuzzy matching (PS3.4 section
    C.2.2.2.1.1): each word begins a part of the name, in any order.
    """

    attribute: str
    groups: tuple[tuple[Pattern, ...], ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Between:
    """Range matching of a date or time, both ends included; an open end is empty."""

    attribute: str
    low: str
    high: str


@dataclass(frozen=True)
class DateTimeBetween:
    """A date range and a time range of the same form matched as one (PS3.4 section C.2.2.2.5.4)."""

    date: Between
    time: Between


Condition = UidIn | TextIn | NameLike | Between | DateTimeBetween


def parse_pattern(text: str, normal: Callable[[str], str] = str) -> Pattern:
    """Text with wild cards; `normal` is applied to the text between them.

    Raises:
        BadRequest: there are too many wild cards: each may cost the database another walk over the text.
    """
    parts: list[str | Wildcard] = []
    pieces = re.split(r"([*?])", re.sub(r"\*+", "*", text))
    if len(pieces) > 2 * _WILDCARDS_MAX:
        raise BadRequest(f"A value may have at most {_WILDCARDS_MAX} wild cards.")
    for piece in pieces:
        if piece == _ANY_RUN:
            parts.append(Wildcard("*"))
        elif piece == _ANY_ONE:
            parts.append(Wildcard("?"))
        elif piece and (plain := normal(piece)):
            parts.append(plain)
    return tuple(parts)


def is_universal(text: str) -> bool:
    """Whether a value matches everything, empty values too (PS3.4 section C.2.2.2.3 and C.2.2.2.4)."""
    return not text.strip("*")


def parse_uids(attribute: str, values: Iterable[str]) -> UidIn | None:
    """UIDs separated by commas or backslashes, or given by several parameters; None matches all.

    Raises:
        BadRequest: one of them is no UID, or there are too many.
    """
    texts = [text.strip() for value in values for text in re.split(r"[,\\]", value)]
    texts = [text for text in texts if text]
    if not texts:
        return None
    try:
        uids = frozenset(Uid(text) for text in texts)
    except InvalidUidError as error:
        raise BadRequest(f"A value in the query is {error}.") from None
    if len(uids) > _UIDS_MAX:
        raise BadRequest(f"At most {_UIDS_MAX} UIDs can be searched at once.")
    return UidIn(attribute, uids)


def parse_texts(attribute: str, texts: list[str], normal: Callable[[str], str] = str) -> TextIn | None:
    """Alternatives, each with or without wild cards; None matches all.

    Raises:
        BadRequest: there are too many.
    """
    texts = [text.strip() for text in texts]
    if len(texts) > _ALTERNATIVES_MAX:
        raise BadRequest(f"At most {_ALTERNATIVES_MAX} values can be searched at once.")
    if not any(texts) or any(text and is_universal(text) for text in texts):
        return None
    return TextIn(attribute, tuple(parse_pattern(text, normal) for text in texts if text))


def parse_name(attribute: str, text: str, *, fuzzy: bool) -> NameLike | None:
    """A person name, its component groups separated by ``=``; None matches all.

    Raises:
        BadRequest: it has too many parts.
    """
    text = text.strip()
    if fuzzy and not re.search(r"[*?]", text):
        wanted = NameLike(attribute, words=tuple(filter(None, re.split(r"[\s^=]+", fold(text)))))
    else:
        wanted = NameLike(attribute, groups=tuple(filter(any, map(_of_group, text.split("=")))))
    parts = len(wanted.words) + len(wanted.groups)
    if parts > _PARTS_MAX:
        raise BadRequest(f"At most {_PARTS_MAX} parts of a name can be searched at once.")
    return wanted if parts else None


def _of_group(text: str) -> tuple[Pattern, ...]:
    """The patterns of which one is to fit a component group as the catalog keeps it; none matches all.

    It keeps no empty components at the end: they may be left out with their delimiters (PS3.5 section
    6.2.1), so ``DOE^*`` is ``DOE``, too. ``?`` stands for a character that is kept.
    """
    text = text.strip(" ")
    named = text.rstrip("^* ")
    delimiters, star, _ = text[len(named) :].partition("*")
    texts = [named + delimiters + star, named] if delimiters and star else [named + star]
    return () if is_universal(texts[0]) else tuple(parse_pattern(each, fold) for each in texts)


_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_TIME = re.compile(r"([01][0-9]|2[0-3])(?:([0-5][0-9])(?:([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?")


def parse_dates(attribute: str, text: str) -> Between | None:
    """A date or a range of dates; None matches all.

    Raises:
        BadRequest: it is none.
    """
    bounds = _range(text, _date)
    return bounds and Between(attribute, *bounds)


def parse_times(attribute: str, text: str) -> Between | None:
    """A time or a range of times; None matches all.

    A time that names no seconds is all of its minute. The bounds compare as text with times of any
    precision: the lower one is cut to its shortest form, the upper one filled up.

    Raises:
        BadRequest: it is none.
    """
    bounds = _range(text, _time)
    if bounds is None:
        return None
    return Between(attribute, _shortest(bounds[0]), _longest(bounds[1]))


def _range(text: str, one: Callable[[str], str]) -> tuple[str, str] | None:
    text = text.strip()
    if is_universal(text):
        return None
    low, hyphen, high = (part.strip() for part in text.partition("-"))
    if hyphen and not low and not high:
        raise BadRequest("A range of dates or times needs at least one end.")
    low, high = low and one(low), high and one(high)
    return (low, high) if hyphen else (low, low)


def _date(text: str) -> str:
    found = _DATE.fullmatch(text)
    try:
        if found and date(int(found[1]), int(found[2]), int(found[3])):
            return text
    except ValueError:
        pass
    raise BadRequest("A date must be YYYYMMDD; a range YYYYMMDD-YYYYMMDD, of which one end may be left out.")


def _time(text: str) -> str:
    if _TIME.fullmatch(text):
        return text
    raise BadRequest("A time must be HH, HHMM, HHMMSS or HHMMSS.FFFFFF; a range joins two by a hyphen.")


def _shortest(time: str) -> str:
    time = time.rstrip("0").rstrip(".") if "." in time else time
    while len(time) > 2 and time.endswith("00") and "." not in time:  # noqa: PLR2004 - HH
        time = time[:-2]
    return time


def _longest(time: str) -> str:
    whole, _, fraction = time.partition(".")
    if not whole:
        return ""
    return f"{whole}{'5959'[len(whole) - 2 :]}.{fraction:9<6}"
