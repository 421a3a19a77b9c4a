"""Conditions as SQL on the catalog's `studies`: text that both databases take, its values apart.

A search is put together anew each time: by SQLAlchemy that took longer than the databases take to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

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
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Column

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


class Sql(NamedTuple):
    """A part of a statement. Each `?` in the text is one of the values; nothing else in it is a caller's."""

    text: str
    values: tuple[Any, ...] = ()


def filled(template: str, *parts: Sql) -> Sql:
    """The parts in the places of the template's braces."""
    values = tuple(value for each in parts for value in each.values)
    return Sql(template.format(*(each.text for each in parts)), values)


def joined(by: str, parts: Iterable[Sql]) -> Sql:
    """The parts, one after the other."""
    known = list(parts)
    return filled(by.join("{}" for _ in known), *known)


def all_of(parts: Iterable[Sql]) -> Sql:
    """All conditions (AND)."""
    return filled("({})", joined(" AND ", [*parts] or [Sql("true")]))


def any_of(parts: Iterable[Sql]) -> Sql:
    """Any condition (OR)."""
    return filled("({})", joined(" OR ", [*parts] or [Sql("false")]))


def one_of(column: str, values: Sequence[Any]) -> Sql:
    """The column has one of these values (IN)."""
    if not values:
        return Sql("false")
    return Sql(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))


def compile_condition(condition: Condition) -> Sql:
    """One condition as an expression on `studies`."""
    match condition:
        case UidIn(attribute, uids):
            return one_of(_column(attribute), sorted(uids))
        case TextIn(attribute, patterns):
            return any_of(_text(attribute, pattern) for pattern in patterns)
        case NameLike():
            return _name(condition)
        case Between():
            return _between(condition)
        case DateTimeBetween(day, time):
            return _moments(day, time)
        case _:
            assert_never(condition)


def _column(attribute: str) -> str:
    return f"studies.{COLUMNS[attribute].name}"


def _text(attribute: str, pattern: Pattern) -> Sql:
    column = _column(attribute)
    if attribute == attributes.MODALITIES_IN_STUDY:
        return _is_like(column, f"%\\{_like(pattern)}\\%") if pattern else Sql(f"{column} = ''")
    if attribute in attributes.NAMES and not pattern:
        return _is_named(column, pattern)
    if any(isinstance(part, Wildcard) for part in pattern):
        return _is_like(column, _like(pattern))
    text = "".join(part for part in pattern if isinstance(part, str))
    if attribute == attributes.INSTITUTION_NAME and not _is_clinic(text):
        return Sql("false")
    return Sql(f"{column} = ?", (text,))


def _is_clinic(text: str) -> bool:
    try:
        return bool(ClinicId(text))
    except InvalidClinicIdError:
        return False


def _is_like(column: str, pattern: str) -> Sql:
    return Sql(f"{column} LIKE ? ESCAPE '!'", (pattern,))


def _like(pattern: Pattern) -> str:
    parts = []
    for part in pattern:
        if isinstance(part, Wildcard):
            parts.append("%" if part.kind == "*" else "_")
        else:
            parts.append(part.replace("!", "!!").replace("%", "!%").replace("_", "!_"))
    return "".join(parts)


def _is_named(column: str, pattern: Pattern) -> Sql:
    """The key holds each component group between newlines (pacs.catalog.worklist)."""
    if not pattern:
        return Sql(f"trim({column}, ?) = ''", ("\n",))
    return _is_like(column, f"%\n{_like(pattern)}\n%")


def _name(condition: NameLike) -> Sql:
    column = _column(condition.attribute)
    groups = [any_of(_is_named(column, each) for each in patterns) for patterns in condition.groups]
    words = [
        any_of(_is_like(column, f"%{before}{_like((word,))}%") for before in ("\n", "^", " "))
        for word in condition.words
    ]
    return all_of([*groups, *words])


def _between(condition: Between) -> Sql:
    column = _column(condition.attribute)
    if condition.low == condition.high:
        return Sql(f"{column} = ?", (condition.low,))
    bounds = [Sql(f"{column} <> ''")]
    if condition.low:
        bounds.append(Sql(f"{column} >= ?", (condition.low,)))
    if condition.high:
        bounds.append(Sql(f"{column} <= ?", (condition.high,)))
    return all_of(bounds)


def _moments(day: Between, time: Between) -> Sql:
    """From the time on the first day to the time on the last; a study without a time matches by its day."""
    on, at = _column(day.attribute), _column(time.attribute)
    bounds = [Sql(f"{on} <> ''")]
    if day.low:
        later = Sql(f"({on} > ? OR ({on} = ? AND ({at} >= ? OR {at} = '')))", (day.low, day.low, time.low))
        bounds += [Sql(f"{on} >= ?", (day.low,)), later]
    if day.high:
        earlier = Sql(f"({on} < ? OR ({on} = ? AND {at} <= ?))", (day.high, day.high, time.high))
        bounds += [Sql(f"{on} <= ?", (day.high,)), earlier]
    return all_of(bounds)
