"""Whichever way a search takes through the catalog, it finds what a plain look at every study finds."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote

import pytest
from sqlalchemy import delete, insert, text, update

from gateway.access.caller import Caller
from gateway.qido.search import search
from gateway.qido.studies import parse_study_query
from pacs.archive import ArchivedStudy
from pacs.catalog import clinics, worklist
from pacs.catalog.schema import studies, study_access
from pacs.ids import ClinicId, Uid
from pacs.text import fold

if TYPE_CHECKING:
    from pacs.catalog import Catalog

TODAY = date(2026, 1, 2)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
CLINICS = [ClinicId(name) for name in ("north", "north-2", "south")]
MORE = [ClinicId(f"clinic-{number}") for number in range(30)]
SYLLABLES = ["am", "ple", "Sam", "Zoë", "a", "%_", "!'", '"x', "Übung", "見", "本", "ABC", "bca"]
CALLERS = {
    "of a clinic": Caller("s", "nora", frozenset(CLINICS[:1]), sees_all=False),
    "of two": Caller("s", "nora", frozenset(CLINICS[:2]), sees_all=False),
    "of many": Caller("s", "nora", frozenset({*CLINICS[1:], *MORE}), sees_all=False),
    "of all": Caller("s", "rita", frozenset(), sees_all=True),
}


@dataclass(frozen=True)
class Entry:
    uid: Uid
    clinic: ClinicId
    name: str
    patient_id: str
    accession: str
    description: str
    modalities: tuple[str, ...]
    day: str
    time: str

    @classmethod
    def any(cls, number: int, chance: random.Random) -> Entry:
        return cls(
            Uid(f"1.2.{number}"),
            chance.choice(CLINICS),
            f"{word(chance, 3)}^{word(chance, 2)}",
            f"{chance.randrange(40)}{word(chance, 1)}",
            f"A{chance.randrange(10**4)}" * chance.randrange(2),
            f"{word(chance, 2)} {word(chance, 2)}",
            tuple(sorted(set(chance.choices(["CT", "MR", "SR", "XC"], [9, 5, 3, 1], k=2)))),
            f"2024010{chance.randrange(1, 6)}" * (chance.random() > 0.05),
            f"{chance.randrange(24):02}{chance.randrange(60):02}",
        )

    def archived(self) -> ArchivedStudy:
        said = {
            "00080020": ("DA", self.day),
            "00080030": ("TM", self.time),
            "00080050": ("SH", self.accession),
            "00081030": ("LO", self.description),
            "00100010": ("PN", {"Alphabetic": self.name}),
            "00100020": ("LO", self.patient_id),
        }
        series = tuple(
            {"0020000E": {"vr": "UI", "Value": [f"{self.uid}.{number}"]}, "00080060": {"Value": [each]}}
            for number, each in enumerate(self.modalities)
        )
        elements = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in said.items()}
        return ArchivedStudy(self.uid, elements, series)

    def row(self) -> dict[str, Any]:
        return {
            "study_uid": self.uid,
            "clinic_id": self.clinic,
            "patient_id": self.patient_id,
            "state": "confirmed",
            "reserved_at": NOW,
            "changed_at": NOW,
            **worklist.columns(self.archived(), self.patient_id),
        }


def word(chance: random.Random, most: int) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(1, most)))


def fits(pattern: str, value: str) -> bool:
    wild = {"*": ".*", "?": "."}
    return re.fullmatch("".join(wild.get(c) or re.escape(c) for c in pattern), value, re.DOTALL) is not None


def pattern_of(value: str, chance: random.Random) -> str:
    """A part of the value, with wild cards around it, or in it."""
    start = chance.randrange(len(value) + 1)
    part = value[start : start + chance.randint(1, 7)] or "a"
    if chance.random() < 0.3:
        part = part.replace(chance.choice(part), "?", 1)
    found = chance.choice([f"*{part}*", f"*{part}*", f"{part}*", f"*{part}", value])
    # Without spaces at its ends, as they are searched.
    return found.strip() or "*"


Question = tuple[str, str, Callable[[Entry], bool]]


def any_question(entries: list[Entry], chance: random.Random) -> list[Question]:
    one = chance.choice(entries)
    name, patient = pattern_of(one.name, chance), pattern_of(one.patient_id, chance)
    accession, described = pattern_of(one.accession, chance), pattern_of(one.description, chance)
    start = word(chance, 2)
    wanted = set(chance.sample(["CT", "MR", "SR", "XC", "US"], 2))
    low, high = sorted(f"2024010{chance.randrange(1, 6)}" for _ in range(2))
    known: list[Question] = [
        ("PatientName", name, lambda e: fits(fold(name.strip(" ^")), fold(e.name))),
        ("PatientID", patient, lambda e: fits(patient, e.patient_id)),
        ("AccessionNumber", accession, lambda e: not accession.strip("*") or fits(accession, e.accession)),
        ("StudyDescription", described, lambda e: fits(fold(described), fold(e.description))),
        ("ModalitiesInStudy", ",".join(wanted), lambda e: bool(wanted.intersection(e.modalities))),
        ("StudyDate", f"{low}-{high}", lambda e: low <= e.day <= high),
        (
            "fuzzymatching=true&PatientName",
            start,
            lambda e: any(part.startswith(fold(start)) for part in re.split(r"[\^ ]", fold(e.name))),
        ),
    ]
    first = chance.choice(known)
    others = [each for each in known[2:6] if each[0] != first[0]]
    return [first, *chance.sample(others, chance.choice([0, 0, 1, 2]))]


def expected(entries: list[Entry], shared: set[Uid], caller: Caller, asked: list[Question]) -> list[str]:
    visible = [e for e in entries if caller.sees_all or e.clinic in caller.clinics or e.uid in shared]
    found = [e for e in visible if all(matches(e) for _, _, matches in asked)]
    found.sort(key=lambda e: e.uid)
    found.sort(key=lambda e: (e.day, e.time), reverse=True)
    return [e.uid for e in found]


def filled(catalog: Catalog, chance: random.Random) -> list[Entry]:
    entries = [Entry.any(number, chance) for number in range(150)]
    with catalog.write() as connection:
        for clinic in CLINICS:
            clinics.add(connection, clinic, clinic, NOW)
        connection.execute(insert(studies), [entry.row() for entry in entries])
    return entries


@pytest.mark.parametrize("walked", [5, 1000])
def test_a_search_finds_what_a_look_at_every_study_finds(catalog: Catalog, walked: int) -> None:
    chance = random.Random(walked)
    entries = filled(catalog, chance)
    shared = {entry.uid for entry in entries[:50] if entry.clinic != "north"}
    until = dict.fromkeys(shared, TODAY)
    until |= {entry.uid: date(2026, 1, 1) for entry in entries[50:] if entry.clinic != "north"}
    with catalog.write() as connection:
        for uid, day in until.items():
            connection.execute(insert(study_access).values(study_uid=uid, clinic_id="north", until=day))
    for _ in range(250):
        asked = any_question(entries, chance)
        name, caller = chance.choice(list(CALLERS.items()))
        offset, limit = chance.choice([0, 0, 3]), chance.choice([2, 10, 200])
        query = "&".join(f"{key}={quote(value)}" for key, value, _ in asked) + f"&offset={offset}"
        parsed = parse_study_query(parse_qsl(query))
        found = [each.study_uid for each in search(catalog, caller, parsed, TODAY, limit, walked=walked)]
        visible = shared if ClinicId("north") in caller.clinics else set()
        assert found == expected(entries, visible, caller, asked)[offset : offset + limit], (name, query)


def test_a_study_is_found_as_it_is_now(catalog: Catalog) -> None:
    first, other, gone = filled(catalog, random.Random(3))[:3]
    changed = Entry(first.uid, first.clinic, "Quartz^Rita", "Q77", "QX1234", "knee", ("NM",), first.day, "10")
    with catalog.write() as connection:
        connection.execute(update(studies).where(studies.c.study_uid == first.uid).values(**changed.row()))
        connection.execute(update(studies).where(studies.c.study_uid == other.uid).values(clinic_id="south"))
        connection.execute(delete(studies).where(studies.c.study_uid == gone.uid))

    def found(query: str, caller: Caller) -> list[str]:
        parsed = parse_study_query(parse_qsl(query))
        return [each.study_uid for each in search(catalog, caller, parsed, TODAY, 500, walked=0)]

    for query in ("PatientName=*quartz*", "PatientID=*Q7*", "AccessionNumber=*X123*", "ModalitiesInStudy=NM"):
        assert found(query, CALLERS["of all"]) == [first.uid]
    whole = f"PatientName={quote(other.name)}&StudyDescription={quote(other.description)}"
    south = Caller("s", "sam", frozenset({ClinicId("south")}), sees_all=False)
    assert other.uid in found(whole, south)
    assert other.uid not in found(whole, CALLERS["of two"])
    assert gone.uid not in found(f"PatientName={quote(gone.name)}", CALLERS["of all"])
    if catalog.is_sqlite:
        with catalog.write() as connection:
            # Raises if the index of terms and the rows differ.
            connection.execute(
                text("INSERT INTO study_terms (study_terms, rank) VALUES ('integrity-check', 1)")
            )


class Noted:
    """A catalog that notes what it is asked."""

    is_sqlite = True

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.statements: list[tuple[str, tuple[Any, ...]]] = []

    def rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self.statements.append((sql, values))
        return self._catalog.rows(sql, values)


PLANNED = [
    "", "StudyDate=20240101-20240131", "PatientName=*sample*", "PatientName=*a*", "PatientID=P1",
    "PatientID=*P123*",
    "AccessionNumber=A1", "ModalitiesInStudy=CT,XC", "StudyDescription=*knee*&StudyDate=20240101-",
    "PatientName=*sample*&StudyDate=20240101-20240131",
    "StudyInstanceUID=1.2.3", "fuzzymatching=true&PatientName=sample%20aurora", "PatientSex=F",
]  # fmt: skip


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize("query", PLANNED)
def test_sqlite_reads_no_table_from_end_to_end_although_it_knows_nothing_of_it(
    sqlite_catalog: Catalog, query: str, name: str
) -> None:
    filled(sqlite_catalog, random.Random(1))
    asked = Noted(sqlite_catalog)
    search(cast("Catalog", asked), CALLERS[name], parse_study_query(parse_qsl(query)), TODAY, 101, walked=0)
    assert asked.statements
    with sqlite_catalog.read() as connection:
        for sql, values in asked.statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            scanned = [step.detail for step in plan if step.detail.startswith("SCAN studies")]
            # In the order of the answer, up to its limit.
            assert set(scanned) <= {"SCAN studies USING INDEX ix_studies_listed"}


@pytest.mark.parametrize("name", ["sample^*", "sample^aurora^*^*", "*^aurora^*", "sample^^*"])
def test_the_index_knows_names_that_end_before_the_pattern_does(sqlite_catalog: Catalog, name: str) -> None:
    filled(sqlite_catalog, random.Random(5))
    asked = Noted(sqlite_catalog)
    search(
        cast("Catalog", asked),
        CALLERS["of all"],
        parse_study_query([("PatientName", name)]),
        TODAY,
        9,
        walked=0,
    )
    assert "study_terms MATCH" in asked.statements[-1][0]


def test_a_long_search_for_many_clinics_is_answered(catalog: Catalog) -> None:
    filled(catalog, random.Random(4))
    words = " ".join(f"{number:040}" for number in range(16))
    wild = "*".join(f"{number:020}" for number in range(20))
    modalities = ",".join(f"M{number}" for number in range(100))
    for query in (
        f"fuzzymatching=true&PatientName={words}",
        f"PatientName={wild}&StudyDescription={wild}&ModalitiesInStudy={modalities}",
    ):
        for caller in CALLERS.values():
            parsed = parse_study_query(parse_qsl(query))
            assert search(catalog, caller, parsed, TODAY, 101, walked=0) == []
