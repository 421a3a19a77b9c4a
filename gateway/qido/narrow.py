"""What the text index of the catalog can tell of a search before any column is compared.

It only narrows down: every condition is put to the columns as well.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gateway.qido import studies as attributes
from gateway.qido.sql import COLUMNS, Sql, all_of, any_of
from gateway.qido.values import NameLike, Pattern, TextIn
from pacs.catalog import terms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gateway.qido.values import Condition

# More would hardly narrow it further.
_TERMS_MAX = 12
_KNOWN_MAX = 12
# Then rather the terms of all clinics: the rows' own clinic is looked at, too.
_SCOPED_MAX = 400
# As the index has it, letter by letter.
_HELD = (
    "string_to_array(studies.terms || "
    "replace(' ' || studies.terms, ' ', ' ' || studies.clinic_id || '_'), ' ')"
)

Alternatives = list[frozenset[str]]
"""All terms of at least one of these are in the row."""


def narrowing(conditions: Iterable[Condition]) -> list[Alternatives]:
    """What is known of the rows that match, all of it at once; nothing if no part of the search has terms."""
    found = (known for each in conditions for known in _known(each) if all(known))
    return [[frozenset(sorted(each)[:_TERMS_MAX]) for each in known] for known in islice(found, _KNOWN_MAX)]


def _known(condition: Condition) -> Iterator[Alternatives]:
    match condition:
        case NameLike(attribute, groups, words) if attribute == attributes.PATIENT_NAME:
            column = COLUMNS[attribute].name
            for patterns in groups:
                yield [_of_pattern(column, pattern) for pattern in patterns]
            for word in words:
                yield [frozenset(terms.to_find(column, before + word)) for before in (terms.EDGE, "^", " ")]
        case TextIn(attributes.MODALITIES_IN_STUDY, patterns):
            yield [_of_modality(pattern) for pattern in patterns]
        case TextIn(attribute, patterns) if COLUMNS[attribute].name in terms.TEXT_COLUMNS:
            yield [_of_pattern(COLUMNS[attribute].name, pattern) for pattern in patterns]


def _of_modality(pattern: Pattern) -> frozenset[str]:
    match pattern:
        case (str(modality),):
            return frozenset({terms.of_modality(modality)})
    return frozenset()


def _of_pattern(column: str, pattern: Pattern) -> frozenset[str]:
    parts = [part if isinstance(part, str) else None for part in (terms.EDGE, *pattern, terms.EDGE)]
    return frozenset(term for run in _runs(parts) for term in terms.to_find(column, run))


def _runs(parts: Iterable[str | None]) -> Iterator[str]:
    """The texts between the wild cards."""
    run = ""
    for part in parts:
        if part is None:
            yield run
            run = ""
        else:
            run += part
    yield run


def on_sqlite(known: list[Alternatives], clinics: Collection[str]) -> Sql:
    """The rows of these clinics, of all for none, of which all this is known."""
    query = " OR ".join(
        " AND ".join(
            "(" + " OR ".join(" AND ".join(f'"{term}"' for term in each) for each in alternatives) + ")"
            for alternatives in scoped
        )
        for scoped in _scoped(known, clinics)
    )
    return Sql("studies.rowid IN (SELECT rowid FROM study_terms WHERE study_terms MATCH ?)", (query,))


def on_postgresql(known: list[Alternatives], clinics: Collection[str]) -> Sql:
    """The same for PostgreSQL."""
    return any_of(
        all_of(
            any_of(Sql(f"{_HELD} @> CAST(? AS text[])", (each,)) for each in alternatives)
            for alternatives in scoped
        )
        for scoped in _scoped(known, clinics)
    )


def _scoped(known: list[Alternatives], clinics: Collection[str]) -> Iterator[list[list[list[str]]]]:
    size = sum(len(each) for alternatives in known for each in alternatives)
    if len(clinics) * size > _SCOPED_MAX:
        clinics = ()
    for scope in [f"{clinic}_" for clinic in sorted(clinics)] or [""]:
        yield [
            [[f"{scope}{term}" for term in sorted(each)] for each in alternatives] for alternatives in known
        ]
