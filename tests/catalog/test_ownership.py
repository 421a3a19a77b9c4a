"""Who owns a study: the first clinic that brings its UID, and nobody by accident."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from pacs.archive import ArchivedStudy
from pacs.catalog import clinics, ownership, transfers, worklist
from pacs.catalog.ownership import Claim, Granted, Refusal
from pacs.catalog.schema import series, studies
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from pacs.catalog import Catalog
    from pacs.catalog.worklist import Standing

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NORTH, SOUTH = ClinicId("northside"), ClinicId("southside")
STUDY, OTHER_STUDY = Uid("1.2.3"), Uid("1.2.4")
SERIES, OTHER_SERIES = Uid("1.2.3.1"), Uid("1.2.3.2")


@pytest.fixture(autouse=True)
def two_clinics(catalog: Catalog) -> None:
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", NOW)
        clinics.add(connection, SOUTH, "Southside", NOW)


def claim(
    clinic: ClinicId = NORTH, study: Uid = STUDY, series_uid: Uid = SERIES, patient_id: str = "P1"
) -> Claim:
    return Claim(clinic, study, series_uid, patient_id)


def reserve(catalog: Catalog, wanted: Claim) -> Refusal | Granted:
    with catalog.write() as connection:
        return ownership.reserve(connection, wanted, NOW)


def confirm(catalog: Catalog, study: Uid = STUDY, series_uid: Uid = SERIES) -> None:
    with catalog.write() as connection:
        ownership.confirm(connection, study, [series_uid], NOW)


def state(catalog: Catalog, study: Uid = STUDY) -> str | None:
    with catalog.read() as connection:
        return connection.scalar(select(studies.c.state).where(studies.c.study_uid == study))


def archived(study: Uid = STUDY, *series_uids: Uid) -> ArchivedStudy:
    return ArchivedStudy(
        study,
        {
            "0020000D": {"vr": "UI", "Value": [study]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Sample^Aurora", "Ideographic": "見本^極光"}]},
            "00080020": {"vr": "DA", "Value": ["20260102"]},
            "00081030": {"vr": "LO", "Value": ["Schädel\0"]},
        },
        tuple(
            {
                "0020000E": {"vr": "UI", "Value": [uid]},
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00201209": {"vr": "IS", "Value": [3]},
            }
            for uid in series_uids or (SERIES,)
        ),
    )


def record(catalog: Catalog, found: ArchivedStudy, before: Standing, *, clean: bool = True) -> None:
    with catalog.write() as connection:
        worklist.record(
            connection, found, before, clean=clean, now=NOW, settles_at=ownership.settles_at(NOW, 60)
        )


def dirty(catalog: Catalog) -> list[Uid]:
    with catalog.read() as connection:
        return [each.study_uid for each in ownership.dirty(connection, [NORTH, SOUTH])]


def standing(catalog: Catalog) -> Standing:
    with catalog.read() as connection:
        found = worklist.standing(connection, STUDY)
    assert found
    return found


def test_the_first_clinic_owns_the_study_and_the_second_is_refused(catalog: Catalog) -> None:
    assert reserve(catalog, claim()) is Granted.OWNED
    confirm(catalog)
    assert reserve(catalog, claim(SOUTH)) is Refusal.STUDY_OWNED
    assert reserve(catalog, claim(SOUTH, series_uid=OTHER_SERIES)) is Refusal.STUDY_OWNED
    assert reserve(catalog, claim()) is Granted.OWNED


def test_until_the_archive_confirmed_an_instance_the_second_clinic_waits(catalog: Catalog) -> None:
    reserve(catalog, claim())
    assert reserve(catalog, claim(SOUTH)) is Granted.WAIT
    assert state(catalog) == "provisional"


def test_a_series_of_another_clinic_is_refused_and_leaves_no_study_behind(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    assert reserve(catalog, claim(SOUTH, OTHER_STUDY)) is Refusal.SERIES_OWNED
    assert state(catalog, OTHER_STUDY) is None


def test_a_series_stays_in_its_study_for_its_own_clinic_too(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    assert reserve(catalog, claim(study=OTHER_STUDY)) is Refusal.SERIES_IN_ANOTHER_STUDY


def test_a_patient_id_that_differs_is_refused_for_the_owner_too(catalog: Catalog) -> None:
    reserve(catalog, claim())
    assert reserve(catalog, claim(patient_id="p1")) is Granted.WAIT
    confirm(catalog)
    assert reserve(catalog, claim(patient_id="p1")) is Refusal.PATIENT_ID_DIFFERS


def test_a_study_of_which_nothing_was_stored_is_given_up(catalog: Catalog) -> None:
    reserve(catalog, claim())
    with catalog.write() as connection:
        assert ownership.drop_provisional(connection, STUDY, NORTH)
    assert reserve(catalog, claim(SOUTH)) is Granted.OWNED


def test_a_confirmed_study_is_never_given_up_but_its_unconfirmed_series_are(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    reserve(catalog, claim(series_uid=OTHER_SERIES))
    with catalog.write() as connection:
        assert not ownership.drop_provisional(connection, STUDY, NORTH)
    with catalog.read() as connection:
        assert list(connection.scalars(select(series.c.series_uid))) == [SERIES]


def test_another_clinic_cannot_give_up_a_study(catalog: Catalog) -> None:
    reserve(catalog, claim())
    with catalog.write() as connection:
        assert not ownership.drop_provisional(connection, STUDY, SOUTH)
    assert state(catalog) == "provisional"


def test_of_two_clinics_at_the_same_moment_exactly_one_owns(catalog: Catalog) -> None:
    verdicts: list[Refusal | Granted] = []
    barrier = threading.Barrier(2)

    def run(clinic: ClinicId) -> None:
        barrier.wait()
        verdicts.append(reserve(catalog, claim(clinic)))

    threads = [threading.Thread(target=run, args=(clinic,)) for clinic in (NORTH, SOUTH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [Granted.OWNED, Granted.WAIT]


def test_a_deleted_study_stays_its_owners_and_may_come_again(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    bury(catalog, removed=True)
    assert reserve(catalog, claim(SOUTH)) is Refusal.STUDY_OWNED
    assert reserve(catalog, claim(patient_id="P2")) is Granted.OWNED
    assert state(catalog) == "provisional"


def bury(catalog: Catalog, *, removed: bool) -> None:
    with catalog.write() as connection:
        connection.execute(studies.update().values(refreshed=studies.c.marked))
        study = transfers.owned(connection, STUDY, lock=True)
        assert study
        transfers.bury(connection, study, NOW)
        if removed:
            study = transfers.begin_removal(connection, STUDY, NOW)
            assert study
            assert transfers.end_removal(connection, study)


def drop(catalog: Catalog) -> bool:
    with catalog.write() as connection:
        return ownership.drop_provisional(connection, STUDY, NORTH)


def test_until_the_archive_has_removed_it_a_deleted_study_does_not_come_again(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    bury(catalog, removed=False)
    assert reserve(catalog, claim()) is Granted.WAIT
    assert reserve(catalog, claim(patient_id="P2", series_uid=OTHER_SERIES)) is Granted.WAIT
    assert reserve(catalog, claim(SOUTH)) is Refusal.STUDY_OWNED
    record(catalog, archived(), standing(catalog))
    assert (state(catalog), dirty(catalog)) == ("deleted", [])
    assert reserve(catalog, claim()) is Granted.WAIT


def test_what_the_archive_answered_before_it_removed_a_study_is_not_written_of_its_new_files(
    catalog: Catalog,
) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    bury(catalog, removed=True)
    before = standing(catalog)
    reserve(catalog, claim())
    with pytest.raises(worklist.OvertakenError):
        record(catalog, archived(), before)
    assert state(catalog) == "provisional"


def test_a_deleted_study_of_which_nothing_came_again_is_deleted_again(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    bury(catalog, removed=True)
    assert reserve(catalog, claim(patient_id="P2", series_uid=OTHER_SERIES)) is Granted.OWNED
    assert reserve(catalog, claim(SOUTH)) is Granted.WAIT
    assert not drop(catalog)
    assert (state(catalog), dirty(catalog), standing(catalog).patient_id) == ("deleted", [], "")
    assert reserve(catalog, claim(SOUTH)) is Refusal.STUDY_OWNED
    assert reserve(catalog, claim(SOUTH, OTHER_STUDY)) is Refusal.SERIES_OWNED
    assert reserve(catalog, claim(patient_id="P3")) is Granted.OWNED
    confirm(catalog)
    assert not drop(catalog)
    assert state(catalog) == "confirmed"


def test_a_file_that_is_refused_leaves_a_deleted_study_deleted(catalog: Catalog) -> None:
    reserve(catalog, claim())
    confirm(catalog)
    bury(catalog, removed=True)
    reserve(catalog, claim(study=OTHER_STUDY, series_uid=OTHER_SERIES))
    assert reserve(catalog, claim(series_uid=OTHER_SERIES)) is Granted.WAIT
    assert state(catalog) == "deleted"
    confirm(catalog, OTHER_STUDY, OTHER_SERIES)
    assert reserve(catalog, claim(series_uid=OTHER_SERIES)) is Refusal.SERIES_IN_ANOTHER_STUDY
    assert state(catalog) == "deleted"
    assert reserve(catalog, claim()) is Granted.OWNED
    assert reserve(catalog, claim(series_uid=OTHER_SERIES)) is Refusal.SERIES_IN_ANOTHER_STUDY
    assert state(catalog) == "provisional", "the other file is on its way"


def test_a_reservation_marks_the_study_dirty_until_it_is_refreshed(catalog: Catalog) -> None:
    reserve(catalog, claim())
    assert dirty(catalog) == [STUDY]
    record(catalog, archived(), standing(catalog))
    assert dirty(catalog) == []
    assert state(catalog) == "confirmed"


def test_a_mark_set_while_the_archive_was_asked_is_not_cleared(catalog: Catalog) -> None:
    reserve(catalog, claim())
    before = standing(catalog)
    reserve(catalog, claim())
    record(catalog, archived(), before)
    assert dirty(catalog) == [STUDY]


def test_an_answer_older_than_the_row_is_not_written(catalog: Catalog) -> None:
    reserve(catalog, claim())
    before = standing(catalog)
    record(catalog, archived(STUDY, SERIES, OTHER_SERIES), before)
    with pytest.raises(worklist.OvertakenError):
        record(catalog, archived(STUDY, SERIES), before)
    with catalog.read() as connection:
        assert connection.scalar(select(studies.c.series_count)) == 2


def test_a_deleted_study_does_not_come_back_by_a_refresh(catalog: Catalog) -> None:
    reserve(catalog, claim())
    with catalog.write() as connection:
        connection.execute(studies.update().values(state="deleted"))
    record(catalog, archived(), standing(catalog))
    assert state(catalog) == "deleted"


def test_a_refresh_with_files_still_coming_leaves_the_study_dirty(catalog: Catalog) -> None:
    reserve(catalog, claim())
    record(catalog, archived(), standing(catalog), clean=False)
    assert dirty(catalog) == [STUDY]


def test_a_refresh_raises_the_revision_and_the_settling_raises_it_once_more(catalog: Catalog) -> None:
    def revision() -> tuple[int, bool]:
        with catalog.read() as connection:
            row = connection.execute(select(studies.c.revision, studies.c.settled)).one()
            return row.revision, row.settled

    def settle(seconds: float) -> int:
        with catalog.write() as connection:
            return ownership.settle(connection, NOW + timedelta(seconds=seconds))

    reserve(catalog, claim())
    record(catalog, archived(), standing(catalog))
    first, settled = revision()
    assert first > 0
    assert not settled
    assert settle(60) == 0
    assert settle(62) == 1
    assert settle(62) == 0
    second, settled = revision()
    assert second > first
    assert settled
    reserve(catalog, claim())
    assert revision() == (second, False)


def test_a_clock_that_was_set_neither_hurries_nor_holds_up_the_settling(catalog: Catalog) -> None:
    """A study refreshed by a clock 400 days ahead settles by ours; none does that ours came to by a leap."""

    def settled(at: datetime, *, anew: bool) -> int:
        with catalog.write() as connection:
            ownership.settle_by(connection, at + timedelta(seconds=61), anew=anew)
            return ownership.settle(connection, at)

    reserve(catalog, claim())
    record(catalog, archived(), standing(catalog))
    before, after = NOW - timedelta(days=400), NOW + timedelta(days=400)
    assert settled(before, anew=False) == 0
    assert settled(after, anew=True) == 0
    assert settled(before, anew=False) == 0
    assert settled(before + timedelta(seconds=62), anew=False) == 1


def test_a_study_that_somebody_reserves_is_settled_later_and_holds_up_nobody(catalog: Catalog) -> None:
    if catalog.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    for each in (STUDY, OTHER_STUDY):
        reserve(catalog, claim(study=each, series_uid=Uid(f"{each}.9")))
        with catalog.write() as connection:
            connection.execute(studies.update().values(refreshed=studies.c.marked, settles_at=NOW))
    with catalog.write() as importing:
        ownership.reserve(importing, claim(series_uid=Uid(f"{STUDY}.9")), NOW)
        with catalog.write() as connection:
            # Waiting for the one would be a deadlock if the importer reserved the other one now.
            assert ownership.settle(connection, NOW) == 1
    with catalog.read() as connection:
        found = connection.execute(select(studies.c.study_uid).where(studies.c.settled))
        assert found.scalars().all() == [OTHER_STUDY]


def test_the_worklist_row_is_what_the_archive_answered(catalog: Catalog) -> None:
    reserve(catalog, claim())
    record(catalog, archived(STUDY, SERIES, OTHER_SERIES), standing(catalog))
    with catalog.read() as connection:
        row = connection.execute(select(studies)).one()
        rows = connection.execute(select(series.c.series_uid, series.c.clinic_id))
        owners = {row.series_uid: row.clinic_id for row in rows}
    assert row.patient_name_key == "\nsample^aurora\n見本^極光\n"
    assert row.study_description_key == "schadel"
    assert (row.study_date, row.modalities) == ("20260102", "\\CT\\")
    assert (row.series_count, row.instance_count) == (2, 6)
    assert "見本^極光" in row.dicom_json
    assert owners == {SERIES: NORTH, OTHER_SERIES: NORTH}


def test_what_the_archive_no_longer_lists_is_hidden_and_keeps_its_owner(catalog: Catalog) -> None:
    reserve(catalog, claim())
    record(catalog, archived(), standing(catalog))
    before = standing(catalog)
    with catalog.write() as connection:
        worklist.record_missing(connection, STUDY, before, clean=False, now=NOW)
    assert state(catalog) == "missing"
    assert reserve(catalog, claim(SOUTH)) is Refusal.STUDY_OWNED
    record(catalog, archived(), standing(catalog))
    assert state(catalog) == "confirmed"


def test_what_is_confirmed_of_one_study_is_not_of_another(catalog: Catalog) -> None:
    reserve(catalog, claim(SOUTH))
    reserve(catalog, claim(NORTH, OTHER_STUDY, OTHER_SERIES))
    with catalog.write() as connection:
        ownership.confirm(connection, OTHER_STUDY, [OTHER_SERIES, SERIES], NOW)
    assert reserve(catalog, claim(NORTH, OTHER_STUDY)) is Granted.WAIT
