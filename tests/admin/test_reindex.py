"""`clinicpacs reindex`: rows from the archive, owners only from what clinicpacs itself wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset

from pacs.archive import ArchiveUnavailableError
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics, ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import audit, series, studies
from pacs.ids import ClinicId, Uid
from pacs.written_owner import written_owner
from support.corpus import instance_bytes, make_instance, sample_uid, to_bytes
from support.dicom_files import tag_bytes
from support.site import NORTH, NOW, SOUTH, Site, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.archive import ArchivedStudy, ListedStudy, Lister

STUDY = Uid(sample_uid("reindex"))


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    with site.archive() as running:
        yield running


def file(
    number: int = 1, *, clinic: ClinicId | None = NORTH, study: str = STUDY, series_uid: str = ""
) -> bytes:
    content = instance_bytes(
        study_uid=study,
        series_uid=series_uid or sample_uid(study, "series"),
        sop_instance_uid=sample_uid(study, series_uid, number),
        instance_number=number,
    )
    return content if clinic is None else tag_bytes(content, clinic)


def own(site: Site, clinic: ClinicId = NORTH, study: str = STUDY, *, confirmed: bool = True) -> None:
    """What the importer leaves behind when it has stored a study."""
    series_uid = Uid(sample_uid(study, "series"))
    with site.catalog.write() as connection:
        ownership.reserve(connection, Claim(clinic, Uid(study), series_uid, "SAMPLE-1"), NOW)
        if confirmed:
            ownership.confirm(connection, Uid(study), [series_uid], NOW)
            connection.execute(studies.update().values(refreshed=studies.c.marked))


def states(site: Site) -> dict[str, tuple[str, str]]:
    return {row["study_uid"]: (row["clinic_id"], row["state"]) for row in site.rows(studies)}


def test_rows_are_written_anew_from_the_archive(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    own(site)
    store(archive, file(1), file(2))
    (before,) = site.rows(studies)
    assert "1 refreshed" in site.done("reindex")
    (row,) = site.rows(studies)
    assert (row["clinic_id"], row["state"], row["instance_count"]) == (NORTH, "confirmed", 2)
    assert row["modalities"] == "\\CT\\"
    assert row["revision"] > before["revision"]
    assert site.audited() == [("reindex", None, True)]


def test_with_all_a_row_that_has_not_changed_is_written_anew(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    own(sqlite_site)
    with sqlite_site.archive() as running:
        store(running, file())
        revisions = []
        for arguments in ((), (), ("--all",)):
            sqlite_site.done("reindex", *arguments)
            revisions += [row["revision"] for row in sqlite_site.rows(studies)]
    assert revisions[0] == revisions[1] < revisions[2]


def test_a_reserved_study_that_the_archive_has_is_confirmed(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    own(site, confirmed=False)
    store(archive, file())
    site.done("reindex")
    assert states(site) == {STUDY: (NORTH, "confirmed")}


def test_owners_are_never_reassigned(site: Site, archive: DicomWebArchive) -> None:
    """The archive's files say southside; the catalog says northside, and it stays so."""
    site.add_clinics()
    own(site, NORTH)
    store(archive, file(clinic=SOUTH))
    site.done("reindex")
    assert states(site) == {STUDY: (NORTH, "confirmed")}


@pytest.mark.short
def test_a_lost_owner_is_restored_from_what_clinicpacs_wrote(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    store(archive, file(1), file(2, series_uid=sample_uid("another")))
    assert "1 got their owner back (northside)" in site.done("reindex")
    (row,) = site.rows(studies)
    assert (row["clinic_id"], row["state"], row["patient_id"]) == (NORTH, "confirmed", "SAMPLE-1")
    assert row["series_count"] == 2
    assert {each["clinic_id"] for each in site.rows(series)} == {NORTH}
    assert all(each["confirmed"] for each in site.rows(series))
    assert ("restore-owner", NORTH, True) in site.audited()
    assert "1 refreshed" in site.done("reindex"), "and then it is like any other"


def forged(*, last: str, institution: str = SOUTH) -> bytes:
    """A file whose history ends with an item of `last`, with one of clinicpacs before it."""
    ds = make_instance(study_uid=STUDY, series_uid=sample_uid(STUDY, "series"), institution=institution)
    items = []
    for system in ("clinicpacs", last):
        item, before = Dataset(), Dataset()
        before.InstitutionName = ""
        item.ModifiedAttributesSequence, item.ModifyingSystem = [before], system
        item.AttributeModificationDateTime, item.SourceOfPreviousValues = "20260102030405", ""
        item.ReasonForTheAttributeModification = "COERCE"
        items.append(item)
    ds.OriginalAttributesSequence = items
    return to_bytes(ds)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ([file(clinic=None)], "not all of its series were stored through clinicpacs"),
        ([file(), file(clinic=None, series_uid="1.2.3")], "not all of its series"),
        ([file(), file(clinic=SOUTH, series_uid="1.2.3")], "its series name different clinics"),
        ([file(clinic=ClinicId("eastside"))], "its clinic eastside is not in the catalog"),
        ([forged(last="another system")], "not all of its series were stored through clinicpacs"),
        ([forged(last="clinicpacs", institution="South Side!")], "not all of its series"),
    ],
)
def test_no_owner_is_restored_from_anything_else(
    site: Site, archive: DicomWebArchive, contents: list[bytes], reason: str
) -> None:
    site.add_clinics()
    store(archive, *contents)
    told = site.done("reindex")
    assert "1 without an owner" in told
    assert reason in told
    assert STUDY in told
    assert states(site) == {}
    assert site.rows(series) == []


def test_a_series_that_another_clinic_has_is_not_taken_from_it(site: Site, archive: DicomWebArchive) -> None:
    """The study's own owner is lost, one of its series belongs to southside by now."""
    site.add_clinics()
    own(site, SOUTH, "1.2.3.4")
    stolen = Uid(sample_uid("1.2.3.4", "series"))
    store(archive, file(study="1.2.3.4", clinic=SOUTH), file(2), file(3, series_uid=stolen))
    told = site.done("reindex")
    assert "the catalog says: series-owned-by-another-clinic" in told
    assert STUDY not in states(site), "nothing of a refused restoration stays"
    assert {row["series_uid"]: row["clinic_id"] for row in site.rows(series)} == {stolen: SOUTH}


def test_the_clinics_of_a_lost_catalog_come_from_the_identity_provider(
    site: Site, archive: DicomWebArchive
) -> None:
    site.directory.ensure_clinic(NORTH, "Northside Clinic")
    site.directory.ensure_clinic(SOUTH, "Southside Clinic")
    store(archive, file(), file(study="1.2.3.4", clinic=ClinicId("eastside")))
    told = site.done("reindex")
    assert "1 got their owner back (northside)" in told
    assert "its clinic eastside is not in the catalog" in told
    with site.catalog.read() as connection:
        assert clinics.all_clinics(connection) == [
            clinics.Clinic(NORTH, "Northside Clinic", active=True),
            clinics.Clinic(SOUTH, "Southside Clinic", active=True),
        ]
    assert ("restore-clinic", NORTH, True) in site.audited()


@pytest.mark.short
def test_a_restored_clinic_is_served_when_all_owners_are_back_and_not_if_it_was_deactivated_since(
    sqlite_site: Site,
) -> None:
    """The first run is broken off by an archive that falls silent."""
    for clinic in (NORTH, SOUTH):
        sqlite_site.directory.ensure_clinic(clinic, clinic)
    assert sqlite_site.run("reindex").exit_code == 2
    sqlite_site.done("deactivate-clinic", SOUTH)
    with sqlite_site.archive() as running:
        assert "no clinic is served" in sqlite_site.run("reindex").stderr, "an empty archive proves nothing"
        store(running, file())
        assert "1 clinic back from the identity provider, and active: northside" in sqlite_site.done(
            "reindex"
        )
        assert "back from" not in sqlite_site.done("reindex")
    with sqlite_site.catalog.read() as connection:
        assert clinics.active_ids(connection) == {NORTH}


def test_while_the_catalog_has_clinics_the_identity_provider_adds_none(
    site: Site, archive: DicomWebArchive
) -> None:
    site.add_clinics()
    site.directory.ensure_clinic("eastside", "Eastside")
    store(archive, file(clinic=ClinicId("eastside")))
    assert "its clinic eastside is not in the catalog" in site.done("reindex")
    assert states(site) == {}


def test_what_the_archive_no_longer_lists_is_hidden_and_comes_back(
    site: Site, archive: DicomWebArchive
) -> None:
    site.add_clinics()
    own(site)
    own(site, study="1.2.3.4")
    store(archive, file())
    assert "1 no longer in the archive, hidden now" in site.done("reindex")
    assert states(site) == {STUDY: (NORTH, "confirmed"), "1.2.3.4": (NORTH, "missing")}
    store(archive, file(study="1.2.3.4"))
    site.done("reindex")
    assert states(site)["1.2.3.4"] == (NORTH, "confirmed")


def test_an_empty_archive_hides_nothing_unless_forced(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    own(site)
    result = site.run("reindex")
    assert result.exit_code == 1
    assert "nothing was hidden" in result.stderr
    assert "Traceback" not in result.output
    assert states(site) == {STUDY: (NORTH, "confirmed")}
    assert "1 no longer in the archive" in site.done("reindex", "--force")
    assert states(site) == {STUDY: (NORTH, "missing")}


def test_an_archive_that_lacks_most_hides_nothing(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    for number in range(6):
        own(site, study=f"1.2.3.{number}")
    store(archive, file(study="1.2.3.0"))
    result = site.run("reindex")
    assert result.exit_code == 1
    assert "lacks 5 of the 6" in result.stderr
    assert {state for _, state in states(site).values()} == {"confirmed"}


def test_a_deleted_study_stays_deleted(site: Site, archive: DicomWebArchive) -> None:
    site.add_clinics()
    own(site)
    with site.catalog.write() as connection:
        connection.execute(studies.update().values(state="deleted"))
    store(archive, file())
    assert "1 deleted here and still in the archive" in site.done("reindex")
    assert states(site) == {STUDY: (NORTH, "deleted")}


def test_an_unreachable_archive_is_one_sentence_and_hides_nothing(site: Site) -> None:
    site.add_clinics()
    own(site)
    result = site.run("reindex", "--force")
    assert result.exit_code == 2
    assert "is not available: unreachable" in result.stderr
    assert "Traceback" not in result.output
    assert states(site) == {STUDY: (NORTH, "confirmed")}
    assert result.stdout == "", "what the archive has is not known"
    (row,) = site.rows(audit)
    assert row["action"] == "reindex"
    assert row["detail"].startswith("broken off: 0 refreshed")


def test_a_run_that_is_broken_off_tells_how_far_it_came(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.reindex._PAGE", 1)
    sqlite_site.add_clinics()
    lister = DicomWebArchive.lister

    def silent_after_one(self: DicomWebArchive) -> Lister:
        def page(offset: int, limit: int) -> list[ListedStudy | None]:
            if offset:
                raise ArchiveUnavailableError("timeout")
            return ask(offset, limit)

        ask = lister(self)
        return page

    monkeypatch.setattr(DicomWebArchive, "lister", silent_after_one)
    with sqlite_site.archive() as running:
        store(running, *(file(study=study) for study in ("1.2.3", "1.2.4")))
        result = sqlite_site.run("reindex", "--force")
    assert (result.exit_code, result.stdout) == (2, "broken off after 1 study: run it again\n")
    assert "not available: timeout" in result.stderr
    assert result.stderr.count("\n") == 1, "progress is for terminals"
    (row,) = (row for row in sqlite_site.rows(audit) if row["action"] == "reindex")
    assert row["detail"].startswith("broken off: ")


def test_a_study_that_the_archive_stumbles_over_stops_no_other(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_site.add_clinics()
    own(sqlite_site)
    asked = DicomWebArchive.study

    def stumbling(self: DicomWebArchive, study_uid: Uid) -> ArchivedStudy | None:
        if study_uid in {STUDY, "1.2.3.4"}:
            raise ArchiveUnavailableError("status-500")
        return asked(self, study_uid)

    monkeypatch.setattr(DicomWebArchive, "study", stumbling)
    with sqlite_site.archive() as running:
        store(running, *(file(study=study) for study in (STUDY, "1.2.3.4", "1.2.3.5")))
        store(running, file(2, series_uid="1.2.3.6"))
        result = sqlite_site.run("reindex")
    assert result.exit_code == 1
    assert "could not answer for" in result.stderr
    assert f"{STUDY}: the archive could not answer for it: status-500" in result.stdout
    assert states(sqlite_site) == {STUDY: (NORTH, "confirmed"), "1.2.3.5": (NORTH, "confirmed")}


def test_more_studies_than_are_worked_on_at_once(sqlite_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.reindex._PAGE", 5)
    sqlite_site.add_clinics()
    wanted = [f"1.2.3.{number}" for number in range(13)]
    with sqlite_site.archive() as running:
        store(running, *(file(study=study) for study in wanted))
        assert "13 got their owner back" in sqlite_site.done("reindex")
        assert set(states(sqlite_site)) == set(wanted)
        assert "13 refreshed" in sqlite_site.done("reindex")


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"04000561": {"vr": "SQ"}}, {"04000561": {"vr": "SQ", "Value": ["x"]}}, {"04000561": 3}],
)
def test_metadata_of_any_shape_name_no_owner(metadata: dict[str, object] | None) -> None:
    assert written_owner(metadata) is None
