"""`clinicpacs reindex` page by page: what a listing tells is compared and written many rows at once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import select, update

from admin.reindex import Reindex, TooManyMissingError
from pacs.archive import Archive, ArchivedStudy, ArchiveUnavailableError, ListedStudy
from pacs.catalog import clinics, ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, Uid
from pacs.refreshing import refresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Row

    from pacs.archive import Lister
    from pacs.catalog import Catalog

BEFORE, NOW = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
NORTH = ClinicId("northside")
A, B, C, D = Uid("1.2.3"), Uid("1.2.4"), Uid("1.2.5"), Uid("1.2.6")


def listed(study_uid: Uid, description: str = "Sample study", *, series: int = 1) -> ListedStudy:
    def element(vr: str, value: Any) -> dict[str, Any]:
        return {"vr": vr, "Value": [value]}

    said = {
        "00080061": element("CS", "CT"),
        "00081030": element("LO", description),
        "0020000D": element("UI", study_uid),
        "00201206": element("IS", series),
        "00201208": element("IS", 1),
    }
    return ListedStudy(study_uid, said)


@dataclass
class Scripted:
    """An archive that lists these studies, and does `meanwhile` while it is asked for the first page."""

    studies: list[ListedStudy]
    silent_from: int = 1000
    at_most: int = 1000
    takes_offset: bool = True
    gone: list[ListedStudy] = field(default_factory=list)
    """Deleted while it answers the first page: they stand in its index, and not in its answer."""
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    now: dict[Uid, str] = field(default_factory=dict)
    """Descriptions that have changed since the listing."""
    asked: list[Uid] = field(default_factory=list)

    def lister(self) -> Lister:
        return self.page

    def page(self, offset: int, limit: int) -> list[ListedStudy | None]:
        if offset >= self.silent_from:
            raise ArchiveUnavailableError("timeout")
        first = offset if self.takes_offset else 0
        found = self.studies[first : first + min(limit, self.at_most)]
        if offset == 0:
            # Pages are asked for ahead and may be answered in any order: this one sees the deletion.
            self.studies = [each for each in self.studies if each not in self.gone]
        answer: list[ListedStudy | None] = [each for each in found if each not in self.gone]
        while offset == 0 and self.meanwhile:
            self.meanwhile.pop()()
        return answer

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        self.asked.append(study_uid)
        found = next((each for each in self.studies if each.study_uid == study_uid), None)
        if found is None or not found.series_count:
            return None
        said = listed(study_uid, self.now.get(study_uid, found.text("00081030"))).dicom_json
        series = {
            "0020000E": {"vr": "UI", "Value": [f"{study_uid}.1"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
            "00201209": {"vr": "IS", "Value": [1]},
        }
        return ArchivedStudy(study_uid, said, (series,))

    def first_instance_metadata(self, _study_uid: Uid, _series_uid: Uid) -> dict[str, Any]:
        return {
            "00080080": {"vr": "LO", "Value": [NORTH]},
            "04000561": {"vr": "SQ", "Value": [{"04000563": {"vr": "LO", "Value": ["clinicpacs"]}}]},
        }


@pytest.fixture(autouse=True)
def two_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.reindex._PAGE", 2)


@pytest.fixture
def three(catalog: Catalog) -> Catalog:
    """A catalog with A, B and C, of which it knows the owner alone."""
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", BEFORE)
        for study_uid in (A, B, C):
            store(connection, study_uid)
        connection.execute(update(studies).values(refreshed=studies.c.marked))
    return catalog


def store(connection: Connection, study_uid: Uid) -> None:
    """What the importer writes of a study of one series."""
    series_uid = Uid(f"{study_uid}.1")
    ownership.reserve(connection, Claim(NORTH, study_uid, series_uid, "SAMPLE-1"), BEFORE)
    ownership.confirm(connection, study_uid, [series_uid], BEFORE)


def reindex(catalog: Catalog, archive: Scripted, *, anew: bool = False) -> Reindex:
    return Reindex(
        catalog=catalog,
        archive=cast("Archive", archive),
        refresh=lambda uid: (
            refresh(catalog, cast("Archive", archive), uid, stable_age_seconds=0, now=lambda: NOW).listed
        ),
        groups=dict,
        record=lambda *_: None,
        stable_age_seconds=0,
        now=lambda: NOW,
        anew=anew,
    )


def run(catalog: Catalog, archive: Scripted, *, force: bool = False, anew: bool = False) -> Reindex:
    work = reindex(catalog, archive, anew=anew)
    work.run(force=force, advance=lambda _: None)
    return work


def rows(catalog: Catalog) -> dict[str, Row[*tuple[Any, ...]]]:
    with catalog.read() as connection:
        return {row.study_uid: row for row in connection.execute(select(studies))}


def test_rows_are_written_from_the_listing_alone(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)])
    assert run(three, archive).report.refreshed == 3
    assert archive.asked == []
    for row in rows(three).values():
        assert (row.state, row.study_description_key, row.modalities) == (
            "confirmed",
            "sample study",
            "\\CT\\",
        )
        assert (row.changed_at, row.settled, row.terms != "") == (NOW, False, True)
        assert row.marked == row.refreshed, "a clean study stays clean"


def test_a_row_that_says_the_same_already_is_left_as_it_is(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)])
    run(three, archive)
    before = rows(three)
    archive.studies = [listed(A), listed(B, "Another"), listed(C)]
    assert run(three, archive).report.refreshed == 3
    after = rows(three)
    assert [after[each] == before[each] for each in (A, B, C)] == [True, False, True]
    assert after[B].revision > before[B].revision


def test_all_rows_are_written_anew_when_that_is_asked_for(three: Catalog) -> None:
    """Their revisions are part of the key by which nginx keeps frames."""
    archive = Scripted([listed(A), listed(B), listed(C)])
    run(three, archive)
    before = rows(three)
    assert run(three, archive, anew=True).report.refreshed == 3
    after = rows(three)
    assert all(after[each].revision > before[each].revision for each in (A, B, C))
    assert archive.asked == []


def test_a_listing_and_an_answer_about_one_study_write_the_same_row(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)])
    run(three, archive)
    before = rows(three)[A]
    refresh(three, cast("Archive", archive), A, stable_age_seconds=0)
    after = rows(three)[A]
    same = set(before._fields) - {"revision", "changed_at", "settles_at"}
    assert {name: getattr(before, name) for name in same} == {name: getattr(after, name) for name in same}


@pytest.mark.parametrize("column", ["study_description_key", "dicom_json", "terms"])
def test_a_damaged_row_is_repaired(three: Catalog, column: str) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)])
    run(three, archive)
    before = rows(three)
    with three.write() as connection:
        connection.execute(update(studies).values({column: "?"}))
    run(three, archive)
    assert [getattr(row, column) for row in rows(three).values()] == [
        getattr(row, column) for row in before.values()
    ]


@pytest.mark.parametrize("state", ["provisional", "deleted"])
def test_a_study_in_another_state_is_not_written_from_the_listing(three: Catalog, state: str) -> None:
    with three.write() as connection:
        connection.execute(update(studies).where(studies.c.study_uid == B).values(state=state))
    archive = Scripted([listed(A), listed(B), listed(C)])
    report = run(three, archive).report
    assert archive.asked == ([] if state == "deleted" else [B])
    assert rows(three)[B].state == ("deleted" if state == "deleted" else "confirmed")
    assert report.deleted == (state == "deleted")


def test_a_missing_study_that_is_listed_again_comes_back(three: Catalog) -> None:
    with three.write() as connection:
        connection.execute(update(studies).where(studies.c.study_uid == B).values(state="missing"))
    run(three, Scripted([listed(A), listed(B), listed(C)]))
    assert rows(three)[B].state == "confirmed"


def test_a_study_with_other_series_than_the_catalog_knows_is_asked_for(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B, series=2), listed(C)])
    run(three, archive)
    assert archive.asked == [B]


@pytest.mark.parametrize("tag", ["00080061", "00201208"])
def test_a_study_that_is_listed_without_its_counts_is_asked_for(three: Catalog, tag: str) -> None:
    uncounted = listed(B)
    del uncounted.dicom_json[tag]
    archive = Scripted([listed(A), uncounted, listed(C)])
    run(three, archive)
    assert archive.asked == [B]
    assert (rows(three)[B].modalities, rows(three)[B].instance_count) == ("\\CT\\", 1)


def test_a_short_page_is_not_the_last(three: Catalog) -> None:
    """An archive may cap its answers (PS3.18 section 8.3.4.4)."""
    archive = Scripted([listed(A), listed(B), listed(C)], at_most=1)
    assert run(three, archive).report.listed == 3
    assert archive.asked == []


def test_a_study_deleted_while_its_page_is_answered_hides_none_behind_it(three: Catalog) -> None:
    """Orthanc lists the page's studies, then reads each, and leaves out what is deleted by then."""
    archive = Scripted([listed(A), listed(D), listed(B), listed(C)], gone=[listed(D)])
    assert run(three, archive).report.listed == 3
    assert archive.asked == []


def test_an_archive_that_takes_no_offset_is_not_listed_for_ever(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)], takes_offset=False)
    report = run(three, archive).report
    assert (report.listed, report.refreshed, report.missing) == (2, 3, 0)
    assert archive.asked == [C]


def test_a_study_that_is_listed_without_any_series_is_hidden(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B, series=0), listed(C)])
    assert run(three, archive).report.missing == 1
    assert rows(three)[B].state == "missing"


def test_a_study_that_is_listed_twice_is_asked_for(three: Catalog) -> None:
    """Two studies of one UID in the archive, or pages that overlap because it grows."""
    archive = Scripted([listed(A), listed(A, "Another"), listed(A, "A third"), listed(B), listed(C)])
    archive.now[A] = "What it says itself"
    report = run(three, archive).report
    assert archive.asked == [A, A]
    assert (report.listed, report.missing) == (5, 0)
    assert rows(three)[A].study_description_key == "what it says itself"


def test_an_archive_that_falls_silent_in_the_middle_hides_nothing(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)], silent_from=2)
    with pytest.raises(ArchiveUnavailableError):
        run(three, archive, force=True)
    assert {row.state for row in rows(three).values()} == {"confirmed"}
    assert rows(three)[A].study_description_key == "sample study", "what was done stays"


def test_a_page_that_slipped_past_a_study_does_not_hide_it(three: Catalog) -> None:
    """Each that was not listed is asked for by its UID."""
    archive = Scripted([listed(A), listed(C)])
    archive.study = lambda uid: ArchivedStudy(  # type: ignore[method-assign]
        uid, listed(uid).dicom_json, ({"0020000E": {"vr": "UI", "Value": [f"{uid}.1"]}},)
    )
    assert run(three, archive).report.missing == 0
    assert rows(three)[B].state == "confirmed"


@pytest.mark.parametrize(
    ("force", "raises"), [(True, nullcontext()), (False, pytest.raises(TooManyMissingError))]
)
def test_many_that_are_not_listed_are_hidden_only_by_force(three: Catalog, force: bool, raises: Any) -> None:  # noqa: FBT001
    with raises:
        run(three, Scripted([]), force=force)
    assert {row.state for row in rows(three).values()} == {"missing" if force else "confirmed"}


def test_what_the_importer_writes_meanwhile_is_the_newer_answer(three: Catalog) -> None:
    """The listing was asked for before; the importer has stored another image and refreshed the row since."""
    archive = Scripted([listed(A), listed(B), listed(C)])

    def store_and_refresh() -> None:
        archive.now[B] = "Corrected"
        refresh(three, cast("Archive", archive), B, stable_age_seconds=0, now=lambda: NOW)

    archive.meanwhile.append(store_and_refresh)
    run(three, archive)
    assert rows(three)[B].study_description_key == "corrected"
    assert {rows(three)[each].study_description_key for each in (A, C)} == {"sample study"}


def test_a_study_deleted_meanwhile_stays_deleted(three: Catalog) -> None:
    archive = Scripted([listed(A), listed(B), listed(C)])

    def delete() -> None:
        with three.write() as connection:
            connection.execute(update(studies).where(studies.c.study_uid == B).values(state="deleted"))

    archive.meanwhile.append(delete)
    run(three, archive)
    assert rows(three)[B].state == "deleted"
    assert rows(three)[A].study_description_key == "sample study"


def test_a_study_imported_meanwhile_is_not_restored(three: Catalog) -> None:
    archive = Scripted([listed(D), listed(A), listed(B), listed(C)])

    def import_it() -> None:
        with three.write() as connection:
            store(connection, D)

    archive.meanwhile.append(import_it)
    report = run(three, archive).report
    assert (report.restored, report.refreshed) == (0, 4)
    assert rows(three)[D].study_description_key == "sample study"
