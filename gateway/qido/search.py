"""The studies that a caller may see and that match, the newest first.

A list is short, a catalog is long, and what a search will find nobody knows before: SQLite keeps no
statistics, PostgreSQL's guess at a part of a name. So nothing is left to the planners. A search walks the
lists of its clinics in their order, which is quick if what it looks for is frequent; but not further than
some thousand studies, and then asks the index of terms, which is quick if it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

from gateway.qido import studies as attributes
from gateway.qido.narrow import narrowing, on_postgresql, on_sqlite
from gateway.qido.sql import Sql, all_of, compile_condition, filled, joined, one_of
from gateway.qido.values import Between, DateTimeBetween, TextIn, UidIn
from pacs.catalog.schema import LISTED

if TYPE_CHECKING:
    from datetime import date

    from gateway.access.caller import Caller
    from gateway.qido.narrow import Alternatives
    from gateway.qido.studies import StudyQuery
    from gateway.qido.values import Condition
    from pacs.catalog import Catalog

WALKED = 500
"""How many of the newest studies are looked at before the index of terms is asked: a millisecond's worth."""
_FURTHER = 10
"""They are looked at further if so large a part of the answer was among them."""
_BRANCHES_MAX = 20
_INDEXED = frozenset({attributes.PATIENT_ID, attributes.ACCESSION_NUMBER})
_LISTED = Sql(str(LISTED))
_KEYS = "SELECT studies.study_uid, studies.study_date, studies.study_time FROM studies"
_NEWEST = Sql("study_date DESC, study_time DESC, study_uid")
_PAGE = (
    "WITH since AS ({}), page AS ({} LIMIT ? OFFSET ?) "
    "SELECT studies.study_uid, studies.dicom_json, (SELECT day FROM since) "
    "FROM page JOIN studies ON studies.study_uid = page.study_uid "
    "ORDER BY page.study_date DESC, page.study_time DESC, page.study_uid"
)


class FoundStudy(NamedTuple):
    """One row of a result, its answer as `pacs.catalog.prepared` made it."""

    study_uid: str
    prepared: str


def search(
    catalog: Catalog,
    caller: Caller,
    query: StudyQuery,
    today: date,
    limit: int,
    *,
    shared: bool = True,
    walked: int = WALKED,
) -> list[FoundStudy]:
    """The studies that the caller may see and that match, the newest first; the order is stable for paging.

    One statement mostly, each a consistent view; all of them are bound to the caller's clinics and shares.

    Args:
        catalog: where they are listed.
        caller: whose clinics and shares bound the result.
        query: what is searched; its own limit is not looked at.
        today: shares end with their day.
        limit: most rows.
        shared: False if it is known that nothing is shared with the caller's clinics.
        walked: how far at first.
    """
    return _Search(catalog, caller, query, today, limit, shared and not caller.sees_all).find(walked)


@dataclass(frozen=True)
class _Search:
    """One search."""

    catalog: Catalog
    caller: Caller
    query: StudyQuery
    today: date
    limit: int
    shared: bool

    def find(self, walked: int) -> list[FoundStudy]:
        """The studies; in their order as far as it is worth it, and then by an index."""
        if any(map(_is_indexed, self.query.conditions)):
            return self._run(self._looked_up([]))[0]
        known = narrowing(self.query.conditions)
        if not known:
            return self._run(self._walked(None))[0]
        found, whole = self._run(self._walked(walked))
        if not whole and self.limit // _FURTHER < len(found) < self.limit:
            # Twice as far as it should take.
            found, whole = self._run(self._walked(2 * walked * self.limit // len(found)))
        if whole or len(found) == self.limit:
            return found
        return self._run(self._looked_up(known))[0]

    def _run(self, statement: Sql) -> tuple[list[FoundStudy], bool]:
        """What is found; and whether it is known that the lists were walked to their ends."""
        rows = self.catalog.rows(*statement)
        return [FoundStudy(uid, prepared) for uid, prepared, _ in rows], bool(rows) and rows[0][2] is None

    def _lists(self) -> list[Sql]:
        if self.caller.sees_all:
            return [Sql("true")]
        if self._is_of_few():
            return [Sql("studies.clinic_id = ?", (clinic,)) for clinic in sorted(self.caller.clinics)]
        return [self._is_owned()]

    def _walked(self, far: int | None) -> Sql:
        """Along the lists, each in its order, so many studies far; an OR of clinics would lose the order."""
        # True without it, too, to their ends; but then SQLite scans and sorts the table.
        since = Sql("studies.study_date >= COALESCE((SELECT day FROM since), ?)", (self._first_day(),))
        branches = [_newest(each, since, *self._conditions()) for each in self._lists()]
        return self._merged(self._day(far), [*branches, *self._shared(since)])

    def _day(self, far: int | None) -> Sql:
        """The day down to which each list has so many studies; NULL if none has in the days searched."""
        if far is None:
            return Sql("SELECT CAST(NULL AS TEXT) AS day")
        lists = self._lists()
        days = [compile_condition(each) for each in self.query.conditions if _is_of_days(each)]
        # Of several, one is mostly the longest by far, and its day counts for all.
        offset = Sql("?", (far // isqrt(len(lists)),))
        template = "SELECT study_date FROM ({} LIMIT 1 OFFSET {}) AS one"
        latest = joined(" UNION ALL ", [filled(template, _newest(each, *days), offset) for each in lists])
        return filled("SELECT MAX(study_date) AS day FROM ({}) AS latest", latest)

    def _first_day(self) -> str:
        return max(filter(None, map(_first_day, self.query.conditions)), default="")

    def _looked_up(self, known: list[Alternatives]) -> Sql:
        """By an index that leads to few studies, which are sorted then."""
        conditions = self._conditions()
        owned = [] if self.caller.sees_all else [self._is_owned()]
        if known:
            narrowed = on_sqlite if self.catalog.is_sqlite else on_postgresql
            conditions.append(narrowed(known, self.caller.clinics if self._is_of_few() else ()))
        # Nor by the index of a range of days.
        hint = " NOT INDEXED" if known and self.catalog.is_sqlite else ""
        own = _sorted(*owned, *conditions, hint=hint)
        return self._merged(self._day(None), [own, *self._shared()])

    def _shared(self, *since: Sql) -> list[Sql]:
        if not self.shared:
            return []
        clinics = one_of("clinic_id", sorted(self.caller.clinics))
        found = filled(
            "studies.study_uid IN (SELECT study_uid FROM study_access WHERE {} AND {})",
            clinics,
            Sql("until >= ?", (self.today.isoformat(),)),
        )
        return [_sorted(found, filled("NOT studies.{}", clinics), *since, *self._conditions())]

    def _conditions(self) -> list[Sql]:
        return [compile_condition(each) for each in self.query.conditions]

    def _is_of_few(self) -> bool:
        return not self.caller.sees_all and len(self.caller.clinics) <= _BRANCHES_MAX

    def _is_owned(self) -> Sql:
        # Of an expression: the index of the clinic's list would lead to all of it.
        return one_of("(studies.clinic_id || '')", sorted(self.caller.clinics))

    def _merged(self, day: Sql, branches: list[Sql]) -> Sql:
        merged, *others = branches
        if others:
            most = Sql("LIMIT ?", (self.limit + self.query.offset,))
            each = [filled("SELECT * FROM ({} {}) AS one", branch, most) for branch in branches]
            both = joined(" UNION ALL ", each)
            merged = filled("SELECT * FROM ({}) AS found ORDER BY {}", both, _NEWEST)
        page = filled(_PAGE, day, merged)
        return Sql(page.text, (*page.values, self.limit, self.query.offset))


def _newest(*conditions: Sql) -> Sql:
    return filled(f"{_KEYS} WHERE {{}} ORDER BY {{}}", all_of([_LISTED, *conditions]), _NEWEST)


def _sorted(*conditions: Sql, hint: str = "") -> Sql:
    # Of an expression: no index may be walked for its order.
    order = "study_date || '' DESC, study_time DESC, study_uid"
    return filled(f"{_KEYS}{hint} WHERE {{}} ORDER BY {order}", all_of([_LISTED, *conditions]))


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
