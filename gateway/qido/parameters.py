"""The parameters that all searches have (PS3.18 section 8.3.4)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from gateway.problems import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

_PARAMETERS_MAX = 100
_NAME_MAX = 64
_VALUE_MAX = 2048
_UINT = re.compile(r"[0-9]{1,9}")
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]{1,63}")
SWITCHES = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})


@dataclass(frozen=True)
class Parameters:
    """A search's query, its parts checked for form.

    `matches` maps an attribute, ``00100010`` or with dots for one in a sequence, to its values.
    `ignored` names the parameters that are none, as far as a header may; `includefield` holds tags.
    """

    matches: dict[str, list[str]]
    limit: int | None = None
    offset: int = 0
    includefield: frozenset[str] = frozenset()
    include_all: bool = False
    fuzzy: bool = False
    empty_value_matching: bool = False
    multiple_value_matching: bool = False
    ignored: tuple[str, ...] = field(default=())


def parse_parameters(pairs: Iterable[tuple[str, str]]) -> Parameters:
    """Read a search's query.

    Raises:
        BadRequest: something in it is malformed.
    """
    pairs = list(pairs)
    if len(pairs) > _PARAMETERS_MAX:
        raise BadRequest(f"A search may have at most {_PARAMETERS_MAX} parameters.")
    matches: dict[str, list[str]] = {}
    special: dict[str, list[str]] = {}
    ignored: list[str] = []
    for name, value in pairs:
        _check_text(value)
        if name in {"limit", "offset", "includefield", "accept", *SWITCHES}:
            special.setdefault(name, []).append(value)
        elif attribute := parse_attribute(name):
            matches.setdefault(attribute, []).append(value)
        else:
            ignored.append(_shown(name))
    tags, include_all = _includefield(special.get("includefield", []))
    return Parameters(
        matches=matches,
        limit=_uint(special, "limit"),
        offset=_uint(special, "offset") or 0,
        includefield=tags,
        include_all=include_all,
        fuzzy=_switch(special, "fuzzymatching"),
        empty_value_matching=_switch(special, "emptyvaluematching"),
        multiple_value_matching=_switch(special, "multiplevaluematching"),
        ignored=tuple(ignored),
    )


def parse_attribute(name: str) -> str | None:
    """The attribute that a name stands for, as ``GGGGEEEE``; dotted in sequences; None when it is none.

    Tags in any usual spelling (``00100010``, ``0010,0010``, ``(0010,0010)``) and keywords (PS3.6).
    """
    parts = [_attribute(part) for part in name.split(".")]
    return ".".join(part for part in parts if part) if all(parts) else None


def _attribute(name: str) -> str | None:
    if found := _TAG.fullmatch(name):
        return f"{found[1]}{found[2]}".upper()
    tag = tag_for_keyword(name) if _KEYWORD.fullmatch(name) else None
    return None if tag is None else f"{tag:08X}"


def name_of(attribute: str) -> str:
    """An attribute's keyword, for messages; its tag when it has none."""
    return ".".join(keyword_for_tag(int(tag, 16)) or tag for tag in attribute.split("."))


def _shown(name: str) -> str:
    """A parameter's name as it may stand in a header: what is no plain name is not repeated."""
    return name if len(name) <= _NAME_MAX and name.isascii() and name.isalnum() else "(unnamed)"


def _check_text(value: str) -> None:
    if len(value) > _VALUE_MAX:
        raise BadRequest(f"A parameter's value may have at most {_VALUE_MAX} characters.")
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in value):
        raise BadRequest("A parameter's value must not contain control characters.")


def _only(special: dict[str, list[str]], name: str) -> str | None:
    values = special.get(name)
    if values and len(values) > 1:
        raise BadRequest(f"The parameter {name} is given more than once.")
    return values[0] if values else None


def _uint(special: dict[str, list[str]], name: str) -> int | None:
    text = _only(special, name)
    if text is None:
        return None
    if not _UINT.fullmatch(text):
        raise BadRequest(f"The parameter {name} must be a whole number, 0 or more.")
    return int(text)


def _switch(special: dict[str, list[str]], name: str) -> bool:
    text = _only(special, name)
    if text not in {None, "true", "false"}:
        raise BadRequest(f"The parameter {name} must be true or false.")
    return text == "true"


def _includefield(values: list[str]) -> tuple[frozenset[str], bool]:
    tags: set[str] = set()
    include_all = False
    for name in (each.strip() for value in values for each in _split_fields(value)):
        if name.lower() == "all":
            include_all = True
        elif not name:
            continue
        elif attribute := parse_attribute(name):
            tags.add(attribute)
        else:
            raise BadRequest("The parameter includefield names no attribute: use tags, keywords, or all.")
    return frozenset(tags), include_all


def _split_fields(value: str) -> list[str]:
    # The comma also stands within a tag that is written 0010,0010.
    return re.findall(r"\(?[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)?|[^,]+", value)
