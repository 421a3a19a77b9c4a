"""The studies that a caller may see and that match, the newest first.

A list is short, a catalog is long, and what a search will find nobody knows before: SQLite keeps no
statistics, PostgreSQL's guess at a part of a name. So nothing is left to the planners. A search walks the
lists of its clinics in their order, which is quick if what it looks for is frequent; but not further than
some thousand studies, and then asks the index of terms, which is quick if it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Select, exists, func, select, true, union_all

from gateway.qido import studies as attributes
from gateway.qido.narrow import narrowing, on_postgresql, on_sqlite
from gateway.qido.sql import compile_condition
from gateway.qido.values import Between, DateTimeBetween, TextIn, UidIn
from pacs.catalog.schema import LISTED, studies, study_access

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import ColumnElement, Connection

    from gateway.access.caller import Caller
    from gateway.qido.narrow import Alternatives
    from gateway.qido.studies import StudyQuery
    from gateway.qido.values import Condition

WALKED = 1000
"""How many of the newest studies are looked at before the index of terms is asked: a millisecond's worth."""
_FURTHER = 10
"""They are looked at further if so large a part of the answer was among them."""
_BRANCHES_MAX = 20
# For the transaction. What PostgreSQL would guess of a table that nobody has analysed, or of parameters it
# does not see, is no reason to read all of it, or to sort what an index has in order.
_PLANNED = ("enable_seqscan", "enable_sort", "jit")
_INDEXED = frozenset({attributes.PATIENT_ID, attributes.ACCESSION_NUMBER})


class FoundStudy(NamedTuple):
    """One row of a result, its answer as `pacs.catalog.prepared` made it."""

    study_uid: str
    prepared: str


def search(
    connection: Connection,
    caller: Caller,
    query: StudyQuery,
    today: date,
    limit: int,
    *,
    walked: int = WALKED,
) -> list[FoundStudy]:
    """The studies that the caller may see and that match, the newest first; the order is stable for paging.

    Args:
        connection: of the catalog.
        caller: whose clinics and shares bound the result.
        query: what is searched; its own limit is not looked at.
        today: shares end with their day.
        limit: most rows.
        walked: how far at first.
    """
    shares = _shares(caller, today)
    on_sqlite = connection.dialect.name == "sqlite"
    planned = [func.set_config(name, "off", true()) for name in _PLANNED] * (not on_sqlite)
    shared = connection.execute(select(exists(shares), *planned)).scalar_one()
    return _Search(connection, caller, query, limit, shares if shared else None).find(walked)


def _shares(caller: Caller, today: date) -> Select[tuple[str]]:
    return select(study_access.c.study_uid).where(
        study_access.c.clinic_id.in_([] if caller.sees_all else sorted(caller.clinics)),
        study_access.c.until >= today,
    )


@dataclass(frozen=True)
class _Search:
    """One search. `shares`: the studies shared with the caller's clinics, if there are any."""

    connection: Connection
    caller: Caller
    query: StudyQuery
    limit: int
    shares: Select[tuple[str]] | None

    def find(self, walked: int) -> list[FoundStudy]:
        """The studies; in their order as far as it is worth it, and then by an index."""
        if any(map(_is_indexed, self.query.conditions)):
            return self._run(self._looked_up([]))
        known = narrowing(self.query.conditions)
        if not known:
            return self._run(self._walked(None))
        day = self._day(walked)
        found = self._run(self._walked(day))
        if day is not None and self.limit // _FURTHER < len(found) < self.limit:
            # Twice as far as it should take.
            day = self._day(2 * walked * self.limit // len(found))
            found = self._run(self._walked(day))
        if day is None or len(found) == self.limit:
            return found
        return self._run(self._looked_up(known))

    def _run(self, statement: Select[Any]) -> list[FoundStudy]:
        return [FoundStudy(uid, prepared) for uid, prepared in self.connection.execute(statement)]

    @property
    def _on_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def _lists(self) -> list[ColumnElement[bool]]:
        if self.caller.sees_all:
            return [true()]
        if self._is_of_few():
            return [studies.c.clinic_id == clinic for clinic in sorted(self.caller.clinics)]
        return [self._is_owned()]

    def _walked(self, day: str | None) -> Select[Any]:
        """Along the lists, each in its order, down to that day; an OR of clinics would give up the order."""
        # True without it, too, if there is no such day; but then SQLite scans and sorts the table.
        since = studies.c.study_date >= (day or self._first_day())
        branches = [_newest(each, since, *self._conditions()) for each in self._lists()]
        return self._merged([*branches, *self._shared(since)])

    def _day(self, far: int) -> str | None:
        """The day down to which each list has so many studies; None if none has in the days searched."""
        lists = self._lists()
        days = [
            select(studies.c.study_date.label("day"))
            .where(LISTED, each, *map(compile_condition, filter(_is_of_days, self.query.conditions)))
            .order_by(*_order(studies.c))
            .limit(1)
            # Of several, one is mostly the longest by far, and its day counts for all.
            .offset(far // isqrt(len(lists)))
            .subquery()
            for each in lists
        ]
        latest = union_all(*(select(day.c.day) for day in days)).subquery()
        day: str | None = self.connection.scalar(select(func.max(latest.c.day)))
        return day

    def _first_day(self) -> str:
        return max(filter(None, map(_first_day, self.query.conditions)), default="")

    def _looked_up(self, known: list[Alternatives]) -> Select[Any]:
        """By an index that leads to few studies, which are sorted then."""
        conditions = self._conditions()
        owned = [] if self.caller.sees_all else [self._is_owned()]
        if known:
            narrowed = on_sqlite if self._on_sqlite else on_postgresql
            conditions.append(narrowed(known, self.caller.clinics if self._is_of_few() else ()))
        own = _sorted(*owned, *conditions)
        if known:
            # Nor by the index of a range of days.
            own = own.with_hint(studies, "NOT INDEXED", "sqlite")
        return self._merged([own, *self._shared()])

    def _shared(self, *since: ColumnElement[bool]) -> list[Select[Any]]:
        if self.shares is None:
            return []
        others = studies.c.clinic_id.not_in(sorted(self.caller.clinics))
        return [_sorted(studies.c.study_uid.in_(self.shares), others, *since, *self._conditions())]

    def _conditions(self) -> list[ColumnElement[bool]]:
        return [compile_condition(each) for each in self.query.conditions]

    def _is_of_few(self) -> bool:
        return not self.caller.sees_all and len(self.caller.clinics) <= _BRANCHES_MAX

    def _is_owned(self) -> ColumnElement[bool]:
        # Of an expression: the index of the clinic's list would lead to all of it.
        return studies.c.clinic_id.concat("").in_(sorted(self.caller.clinics))

    def _merged(self, branches: list[Select[Any]]) -> Select[Any]:
        merged, *others = branches
        if others:
            each = [select(branch.limit(self.limit + self.query.offset).subquery()) for branch in branches]
            both = union_all(*each).subquery()
            merged = select(both).order_by(*_order(both.c))
        page = merged.limit(self.limit).offset(self.query.offset).subquery()
        return (
            select(studies.c.study_uid, studies.c.dicom_json)
            .join(page, page.c.study_uid == studies.c.study_uid)
            .order_by(*_order(page.c))
        )


def _newest(*conditions: ColumnElement[bool]) -> Select[Any]:
    return _keys(*conditions).order_by(*_order(studies.c))


def _sorted(*conditions: ColumnElement[bool]) -> Select[Any]:
    # Of an expression: no index may be walked for its order.
    by_day = studies.c.study_date.concat("").desc()
    return _keys(*conditions).order_by(by_day, studies.c.study_time.desc(), studies.c.study_uid)


def _keys(*conditions: ColumnElement[bool]) -> Select[Any]:
    return select(studies.c.study_uid, studies.c.study_date, studies.c.study_time).where(LISTED, *conditions)


def _order(columns: Any) -> tuple[ColumnElement[Any], ...]:
    return columns.study_date.desc(), columns.study_time.desc(), columns.study_uid


def _is_indexed(condition: Condition) -> bool:
    """Whether an ordinary index leads to few studies: texts as they are, not empty."""
    if isinstance(condition, UidIn):
        return True
    return (
        isinstance(condition, TextIn)
        and condition.attribute in _INDEXED
        and all(pattern and all(isinstance(part, str) for part in pattern) for pattern in condition.patterns)
    )


def _is_of_days(condition: Condition) -> bool:
    return _first_day(condition) is not None


def _first_day(condition: Condition) -> str | None:
    """The first day of a range of study dates, empty if that is open; None of another condition."""
    match condition:
        case Between(attributes.STUDY_DATE, low, _) | DateTimeBetween(Between(_, low, _), _):
            return low
    return None
