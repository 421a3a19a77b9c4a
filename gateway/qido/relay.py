"""Searches within one study, made anew for the archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydicom.datadict import dictionary_VR

from gateway.problems import BadRequest, NotFound
from gateway.qido.parameters import name_of, parse_parameters
from gateway.qido.values import parse_dates, parse_times, parse_uids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pacs.ids import Uid

_STUDY_UID = "0020000D"
_SERIES_UID = "0020000E"
# PS3.18 tables 10.6.1-5, and what archives match besides. Study attributes would be matched, too, but
# the study is fixed already.
MATCHED = frozenset(
    {
        "00080016", "00080018", "00080021", "00080031", "00080060", "0008103E", "00180015", "0020000E",
        "00200011", "00200013", "00200060", "00280010", "00280011", "00400244", "00400245", "00181030",
    }
)  # fmt: skip
_TEXT_MAX = 64


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


def parse_study_search(pairs: Iterable[tuple[str, str]], study: Uid, series: Uid | None) -> StudySearch:
    """Read the query of a search below /studies/{study}.

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
    unsupported = list(parameters.ignored and ["(another)"])
    for attribute, values in parameters.matches.items():
        if attribute in MATCHED:
            parts += _match(attribute, values)
        elif attribute != _STUDY_UID:
            unsupported.append(name_of(attribute))
    if parameters.include_all:
        parts.append("includefield=all")
    elif fields := sorted(tag for tag in parameters.includefield if "." not in tag):
        parts.append("includefield=" + ",".join(fields))
    if parameters.offset:
        parts.append(f"offset={parameters.offset}")
    return StudySearch("&".join(parts), parameters.limit, tuple(unsupported))


def _match(attribute: str, values: list[str]) -> list[str]:
    vr = dictionary_VR(int(attribute, 16))
    if vr == "UI":
        uids = parse_uids(attribute, values)
        return [f"{attribute}={','.join(sorted(uids.uids))}"] if uids else []
    if len(values) > 1:
        raise BadRequest(f"{name_of(attribute)} is given more than once.")
    value = values[0].strip()
    if not value:
        return []
    if vr == "DA":
        parse_dates(attribute, value)
    elif vr == "TM":
        parse_times(attribute, value)
    elif len(value) > _TEXT_MAX or "\\" in value:
        raise BadRequest(f"{name_of(attribute)} has one value of at most {_TEXT_MAX} characters.")
    # Orthanc 1.10 does not decode values (measured): what may stand in a query as it is, does.
    return [f"{attribute}={quote(value, safe='*?,')}"]
