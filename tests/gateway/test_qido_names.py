"""Names with and without empty components at their end: each search finds what the rule says of each."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from itertools import product
from typing import TYPE_CHECKING

from sqlalchemy import insert

from gateway.access.caller import Caller
from gateway.qido.search import search
from gateway.qido.studies import parse_study_query
from pacs.archive import ArchivedStudy
from pacs.catalog import clinics, worklist
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.catalog import Catalog

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NORTH = ClinicId("north")
ALL_CLINICS = Caller("s", "rita", frozenset(), sees_all=True)


def texts(letters: str, most: int) -> Iterator[str]:
    for length in range(most + 1):
        yield from map("".join, product(letters, repeat=length))


NAMES = [*texts("Ab^", 4), "DOE^JOHN^^^", "DOE^JOHN", "DOE^^^", "DOE^^JOHN^", "^JOHN^^", "DOE^JOHN^^MD^"]
PATTERNS = [
    *(each for each in texts("a^*?", 5) if "**" not in each),
    "DOE^JOHN^*", "DOE^JOHN^*^*^*", "DOE^J*^*", "DOE^JOHN^^*", "DOE^*^*", "*^JOHN^*", "DOE^*", "DOE^^*",
    "DOE^*^MD", "DOE^*^*^MD^*", "DOE^*^^MD", "DOE^JOHN^?*", "DOE^JOH?^*", "DOE*^*^", "^JOHN^*^",
    "doe^*^john^*", "*^*^*^*^*", "^*^*^*",
]  # fmt: skip
LEFT_OUT = "~"


def fits(pattern: str, name: str) -> bool:
    """Whether the pattern fits the name with any number of delimiters at its end (PS3.5 section 6.2.1).

    Those may be left out, and only `^` and `*` find them. What is empty or left out as a whole matches all.
    """
    said = {"*": ".*", "?": f"[^{LEFT_OUT}]", "^": rf"[\^{LEFT_OUT}]"}
    expression = re.compile("".join(said.get(each) or re.escape(each) for each in pattern), re.IGNORECASE)
    written = (name.rstrip("^") + LEFT_OUT * more for more in range(len(pattern) + 1))
    return not pattern.strip("^") or any(map(expression.fullmatch, written))


def filed(catalog: Catalog, names: list[str]) -> dict[str, str]:
    """The names by study."""
    known = {f"1.2.{number}": name for number, name in enumerate(names)}
    rows = []
    for uid, name in known.items():
        described = ArchivedStudy(Uid(uid), {"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}, ())
        rows.append(
            {"study_uid": uid, "clinic_id": NORTH, "patient_id": "", "state": "confirmed"}
            | {"reserved_at": NOW, "changed_at": NOW, **worklist.columns(described, "")}
        )
    with catalog.write() as connection:
        clinics.add(connection, NORTH, NORTH, NOW)
        connection.execute(insert(studies), rows)
    return known


def found(catalog: Catalog, pattern: str, **others: str) -> set[str]:
    query = parse_study_query([("PatientName", pattern), *others.items()])
    rows = search(catalog, ALL_CLINICS, query, date(2026, 1, 2), len(NAMES), walked=0)
    return {row.study_uid for row in rows}


def test_a_pattern_finds_what_it_says_of_names_that_end_early(catalog: Catalog) -> None:
    known = filed(catalog, NAMES)
    wrong = {}
    for pattern in PATTERNS:
        expected = {uid for uid, name in known.items() if fits(pattern, name)}
        if differing := expected ^ found(catalog, pattern):
            wrong[pattern] = sorted(known[uid] for uid in differing)
    assert wrong == {}


def test_a_name_of_delimiters_is_none(catalog: Catalog) -> None:
    known = filed(catalog, ["", "^", "^^^^", "^JOHN", "DOE"])
    empty = found(catalog, '""', emptyvaluematching="true")
    assert {known[uid] for uid in empty} == {"", "^", "^^^^"}
