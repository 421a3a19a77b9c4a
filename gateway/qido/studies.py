"""Searching for studies (PS3.18 section 10.6.1.2): which attributes are matched, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.problems import BadRequest
from gateway.qido.parameters import Parameters, name_of, parse_parameters
from gateway.qido.values import (
    EMPTY,
    Between,
    Condition,
    DateTimeBetween,
    TextIn,
    parse_dates,
    parse_name,
    parse_texts,
    parse_times,
    parse_uids,
)
from pacs.text import fold

if TYPE_CHECKING:
    from collections.abc import Iterable

STUDY_DATE = "00080020"
STUDY_TIME = "00080030"
ACCESSION_NUMBER = "00080050"
MODALITIES_IN_STUDY = "00080061"
INSTITUTION_NAME = "00080080"
REFERRING_PHYSICIAN_NAME = "00080090"
STUDY_DESCRIPTION = "00081030"
PATIENT_NAME = "00100010"
PATIENT_ID = "00100020"
PATIENT_BIRTH_DATE = "00100030"
PATIENT_SEX = "00100040"
STUDY_INSTANCE_UID = "0020000D"
STUDY_ID = "00200010"

NAMES = frozenset({PATIENT_NAME, REFERRING_PHYSICIAN_NAME})
DATES = frozenset({STUDY_DATE, PATIENT_BIRTH_DATE})
TIMES = frozenset({STUDY_TIME})
TEXTS = frozenset(
    {ACCESSION_NUMBER, PATIENT_ID, PATIENT_SEX, STUDY_ID, INSTITUTION_NAME, MODALITIES_IN_STUDY}
)
FOLDED = frozenset({STUDY_DESCRIPTION})
"""Matched without case and accents. The standard has it by case; Orthanc does not, and people search so."""
SUPPORTED = NAMES | DATES | TIMES | TEXTS | FOLDED | {STUDY_INSTANCE_UID}


@dataclass(frozen=True)
class StudyQuery:
    """A search for studies. `unsupported` are attributes that were not matched, by name."""

    conditions: tuple[Condition, ...] = ()
    limit: int | None = None
    offset: int = 0
    unsupported: tuple[str, ...] = ()


def parse_study_query(pairs: Iterable[tuple[str, str]]) -> StudyQuery:
    """Read the query of /studies.

    Raises:
        BadRequest: something in it is malformed.
    """
    parameters = parse_parameters(pairs)
    conditions = [
        condition
        for attribute, values in parameters.matches.items()
        if attribute in SUPPORTED and (condition := _condition(attribute, values, parameters))
    ]
    if parameters.multiple_value_matching:
        conditions = [each for condition in conditions for each in _one_by_one(condition)]
    unsupported = [name_of(each) for each in parameters.matches if each not in SUPPORTED]
    return StudyQuery(
        conditions=tuple(_combined(conditions)),
        limit=parameters.limit,
        offset=parameters.offset,
        unsupported=(*unsupported, *parameters.ignored),
    )


def _condition(attribute: str, values: list[str], parameters: Parameters) -> Condition | None:
    if attribute == STUDY_INSTANCE_UID:
        return parse_uids(attribute, values)
    if len(values) > 1:
        raise BadRequest(f"{name_of(attribute)} is given more than once.")
    value = values[0]
    if parameters.empty_value_matching and value.strip() == EMPTY:
        return TextIn(attribute, ((),))
    if attribute in NAMES:
        return parse_name(attribute, value, fuzzy=parameters.fuzzy)
    if attribute in DATES:
        return parse_dates(attribute, value)
    if attribute in TIMES:
        return parse_times(attribute, value)
    return parse_texts(attribute, _alternatives(attribute, value), fold if attribute in FOLDED else str)


def _alternatives(attribute: str, value: str) -> list[str]:
    if attribute == MODALITIES_IN_STUDY:
        # OHIF separates them by a backslash or a comma, by its configuration; no CS holds either.
        return value.replace(",", "\\").upper().split("\\")
    return [value]


def _one_by_one(condition: Condition) -> list[Condition]:
    """Multiple value matching: each value of the key is there (PS3.4 section C.2.2.2.8)."""
    if isinstance(condition, TextIn):
        return [TextIn(condition.attribute, (pattern,)) for pattern in condition.patterns]
    return [condition]


def _combined(conditions: list[Condition]) -> list[Condition]:
    """Study date and time of the same form are one range of moments."""
    ranges = {each.attribute: each for each in conditions if isinstance(each, Between)}
    day, time = ranges.get(STUDY_DATE), ranges.get(STUDY_TIME)
    if day is None or time is None or day.low == day.high:
        return conditions
    if bool(day.low) != bool(time.low) or bool(day.high) != bool(time.high):
        return conditions
    return [each for each in conditions if each not in (day, time)] + [DateTimeBetween(day, time)]
