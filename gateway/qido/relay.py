"""Searches within one study, made anew for the archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydicom.datadict import dictionary_VR

from gateway.paths import Kind
from gateway.problems import BadRequest, NotFound
from gateway.qido.parameters import name_of, parse_parameters
from gateway.qido.values import is_universal, parse_dates, parse_times, parse_uids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pacs.ids import Uid

_STUDY_UID = "0020000D"
_SERIES_UID = "0020000E"
# PS3.18 table 10.6.1-5, and what archives match besides. Study attributes would be matched, too, but
# the study is fixed already.
MATCHED = frozenset(
    {
        "00080016", "00080018", "00080021", "00080031", "00080060", "0008103E", "00180015", "0020000E",
        "00200011", "00200013", "00200060", "00280010", "00280011", "00400244", "00400245", "00181030",
    }
)  # fmt: skip
_TEXT_MAX = 64
_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")
# SOPClassesInStudy: Orthanc 1.12.7 refuses a search for instances that asks for it (measured).
_OF_STUDIES = frozenset({"00080062"})


@dataclass(frozen=True)
class StudySearch:
    """A search in one study: the query for the archive but for its `limit`, and what was left out of it."""

    query: str
    limit: int | None
    unsupported: tuple[str, ...]


def study_of(pairs: Iterable[tuple[str, str]]) -> Uid:
    """The study that /series or /instances is to be searched in: without one they are not served.

    Raises:
        BadRequest: not exactly one is named.
    """
    condition = parse_uids(_STUDY_UID, parse_parameters(pairs).matches.get(_STUDY_UID, []))
    if condition is None or len(condition.uids) != 1:
        raise BadRequest("Searching series and instances needs one StudyInstanceUID.")
    return next(iter(condition.uids))


def parse_study_search(
    pairs: Iterable[tuple[str, str]], study: Uid, series: Uid | None, kind: Kind = Kind.SERIES
) -> StudySearch:
    """Read the query of a search below /studies/{study}, for series or instances.

    Raises:
        BadRequest: something in it is malformed.
        NotFound: it asks for another study or series.
    """
    parameters = parse_parameters(pairs)
    for attribute, uid in ((_STUDY_UID, study), (_SERIES_UID, series)):
        named = parse_uids(attribute, parameters.matches.get(attribute, []))
        if named and uid and uid not in named.uids:
            raise NotFound
    parts = []
    switches = {  # PS3.18 sections 8.3.4.5 and 8.3.4.6
        "emptyvaluematching": parameters.empty_value_matching,
        "multiplevaluematching": parameters.multiple_value_matching,
    }
    unsupported = [*parameters.ignored, *(name for name, is_on in switches.items() if is_on)]
    fields = set(parameters.includefield)
    for attribute, values in parameters.matches.items():
        if attribute not in MATCHED:
            unsupported += [name_of(attribute)] if attribute != _STUDY_UID else []
        elif value := _match(attribute, values):
            parts.append(f"{attribute}={value}")
        else:
            fields.add(attribute)
    if parameters.include_all:
        parts.append("includefield=all")
    else:
        left_out = _OF_STUDIES if kind is Kind.INSTANCES else frozenset()
        tags = sorted(tag for tag in fields - left_out if "." not in tag)
        parts += ["includefield=" + ",".join(tags)] if tags else []
    if parameters.offset:
        parts.append(f"offset={parameters.offset}")
    return StudySearch("&".join(parts), parameters.limit, tuple(unsupported))


def _match(attribute: str, values: list[str]) -> str:
    """The value for the archive; empty when it matches all, and the attribute is only to be told.

    Orthanc refuses wild cards in numbers, and those that are none (measured).
    """
    vr = dictionary_VR(int(attribute, 16))
    if vr == "UI":
        uids = parse_uids(attribute, values)
        return ",".join(sorted(uids.uids)) if uids else ""
    if len(values) > 1:
        raise BadRequest(f"{name_of(attribute)} is given more than once.")
    value = values[0].strip()
    if is_universal(value):
        return ""
    if vr == "DA":
        parse_dates(attribute, value)
    elif vr == "TM":
        parse_times(attribute, value)
    elif vr in {"IS", "US"} and not _WHOLE.fullmatch(value):
        raise BadRequest(f"{name_of(attribute)} must be a whole number.")
    elif len(value) > _TEXT_MAX or "\\" in value:
        raise BadRequest(f"{name_of(attribute)} may have one value of at most {_TEXT_MAX} characters.")
    # Orthanc 1.10 does not decode values (measured): what may stand in a query as it is, does.
    return quote(value, safe="*?,")
