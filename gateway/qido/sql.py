"""Conditions as SQL on the catalog's `studies`. SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from sqlalchemy import and_, false, or_

from gateway.qido import studies as attributes
from gateway.qido.values import (
    Between,
    Condition,
    DateTimeBetween,
    NameLike,
    Pattern,
    TextIn,
    UidIn,
    Wildcard,
)
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement

_ESCAPE = "!"
COLUMNS: dict[str, Column[Any]] = {
    attributes.STUDY_DATE: studies.c.study_date,
    attributes.STUDY_TIME: studies.c.study_time,
    attributes.ACCESSION_NUMBER: studies.c.accession_number,
    attributes.MODALITIES_IN_STUDY: studies.c.modalities,
    attributes.INSTITUTION_NAME: studies.c.clinic_id,
    attributes.REFERRING_PHYSICIAN_NAME: studies.c.referring_physician_key,
    attributes.STUDY_DESCRIPTION: studies.c.study_description_key,
    attributes.PATIENT_NAME: studies.c.patient_name_key,
    attributes.PATIENT_ID: studies.c.patient_id,
    attributes.PATIENT_BIRTH_DATE: studies.c.patient_birth_date,
    attributes.PATIENT_SEX: studies.c.patient_sex,
    attributes.STUDY_INSTANCE_UID: studies.c.study_uid,
    attributes.STUDY_ID: studies.c.study_id,
}
"""The column that an attribute is matched in."""


def compile_condition(condition: Condition) -> ColumnElement[bool]:
    """One condition as an expression on `studies`."""
    match condition:
        case UidIn(attribute, uids):
            return COLUMNS[attribute].in_(sorted(uids))
        case TextIn(attribute, patterns):
            return or_(*(_text(attribute, pattern) for pattern in patterns))
        case NameLike():
            return _name(condition)
        case Between():
            return _between(condition)
        case DateTimeBetween(day, time):
            return _moments(day, time)
        case _:
            assert_never(condition)


def _text(attribute: str, pattern: Pattern) -> ColumnElement[bool]:
    column = COLUMNS[attribute]
    if attribute == attributes.MODALITIES_IN_STUDY:
        return column.like(f"%\\{_like(pattern)}\\%", escape=_ESCAPE) if pattern else column == ""
    if attribute in attributes.NAMES and not pattern:
        return column.in_(("", "\n"))
    if any(isinstance(part, Wildcard) for part in pattern):
        return column.like(_like(pattern), escape=_ESCAPE)
    text = "".join(part for part in pattern if isinstance(part, str))
    if attribute == attributes.INSTITUTION_NAME and not _is_clinic(text):
        return false()
    return column == text


def _is_clinic(text: str) -> bool:
    try:
        return bool(ClinicId(text))
    except InvalidClinicIdError:
        return False


def _like(pattern: Pattern) -> str:
    parts = []
    for part in pattern:
        if isinstance(part, Wildcard):
            parts.append("%" if part.kind == "*" else "_")
        else:
            parts.append(part.replace("!", "!!").replace("%", "!%").replace("_", "!_"))
    return "".join(parts)


def _name(condition: NameLike) -> ColumnElement[bool]:
    """The key holds each component group between newlines (pacs.catalog.worklist)."""
    column = COLUMNS[condition.attribute]
    groups = [column.like(f"%\n{_like(pattern)}\n%", escape=_ESCAPE) for pattern in condition.groups]
    words = [
        or_(*(column.like(f"%{before}{_like((word,))}%", escape=_ESCAPE) for before in ("\n", "^", " ")))
        for word in condition.words
    ]
    return and_(*groups, *words)


def _between(condition: Between) -> ColumnElement[bool]:
    column = COLUMNS[condition.attribute]
    if condition.low == condition.high:
        return column == condition.low
    bounds = [column != ""]
    if condition.low:
        bounds.append(column >= condition.low)
    if condition.high:
        bounds.append(column <= condition.high)
    return and_(*bounds)


def _moments(day: Between, time: Between) -> ColumnElement[bool]:
    """From the time on the first day to the time on the last; a study without a time matches by its day."""
    date_column, time_column = COLUMNS[day.attribute], COLUMNS[time.attribute]
    bounds = [date_column != ""]
    if day.low:
        later = and_(date_column == day.low, or_(time_column >= time.low, time_column == ""))
        bounds += [date_column >= day.low, or_(date_column > day.low, later)]
    if day.high:
        earlier = and_(date_column == day.high, time_column <= time.high)
        bounds += [date_column <= day.high, or_(date_column < day.high, earlier)]
    return and_(*bounds)
