"""`clinicpacs delete`: it vanishes for everyone first, then from the archive; its UID stays its owner's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from admin import deletion, studies
from admin.studies import StudyError
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import ownership, transfers
from pacs.catalog.ownership import Granted, Refusal
from pacs.catalog.schema import audit, study_access
from pacs.catalog.schema import studies as studies_table
from pacs.refreshing import refresh
from support.filed import Failing, Referral, claim_of, file_study, platform
from support.site import NORTH, NOW, SOUTH, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.archive.dicomweb import DicomWebArchive

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ONE, OTHER = Referral("one"), Referral("other")


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    site.add_clinics()
    with site.archive() as running:
        file_study(site.catalog, running, NORTH, *ONE.files())
        file_study(site.catalog, running, NORTH, *OTHER.files())
        yield running


def row(site: Site) -> dict[str, Any]:
    (found,) = [each for each in site.rows(studies_table) if each["study_uid"] == ONE.uid]
    return found


def claim(site: Site, clinic: Any) -> object:
    with site.catalog.write() as connection:
        return ownership.reserve(connection, claim_of(ONE.file(1, 1), clinic), NOW)


def test_it_leaves_archive_and_lists_and_its_uid_to_its_owner(site: Site, archive: DicomWebArchive) -> None:
    site.done("share", ONE.uid, "--with", SOUTH, "--until", "2999-12-31")
    told = site.done("delete", ONE.uid, typed="y\n")
    assert "'SAMPLE-1'" in told
    assert "stay in the folder of processed" in told
    assert archive.study(ONE.uid) is None
    assert archive.study(OTHER.uid) is not None
    tombstone = row(site)
    assert (tombstone["state"], tombstone["clinic_id"]) == ("deleted", NORTH)
    assert tombstone["marked"] == tombstone["refreshed"]
    said = {name: value for name, value in tombstone.items() if value not in ("", 0, None)}
    assert set(said) <= {
        "study_uid", "clinic_id", "state", "marked", "refreshed", "revision", "settled", "settles_at",
        "reserved_at", "changed_at",
    }  # fmt: skip
    assert site.rows(study_access) == []
    assert site.audited()[1:] == [("delete", NORTH, True), ("delete-finished", NORTH, True)]
    assert "was deleted before" in site.done("delete", ONE.uid)
    assert claim(site, SOUTH) is Refusal.STUDY_OWNED
    file_study(site.catalog, archive, NORTH, *ONE.files()[:1])
    assert (row(site)["state"], row(site)["instance_count"]) == ("confirmed", 1)


@pytest.mark.config
@only_sqlite
def test_who_does_not_agree_deletes_nothing(site: Site, archive: DicomWebArchive) -> None:
    assert site.run("delete", ONE.uid, typed="n\n").exit_code == 1
    assert (row(site)["state"], archive.study(ONE.uid) is None) == ("confirmed", False)
    assert site.audited() == []


@pytest.mark.config
@only_sqlite
def test_what_the_archive_could_not_do_is_done_the_next_time(site: Site, archive: DicomWebArchive) -> None:
    url = site.env["ARCHIVE_URL"]
    stopped = site.run("delete", ONE.uid, "--yes", ARCHIVE_URL="http://127.0.0.1:9/dicom-web")
    assert stopped.exit_code == 1
    assert "Nobody sees the study, but its images are still there" in stopped.stderr
    assert row(site)["state"] == "deleted"
    assert "1 deleted here and still in the archive" in site.done("reindex")
    assert row(site)["state"] == "deleted"
    assert site.env["ARCHIVE_URL"] == url
    site.done("delete", ONE.uid)
    assert archive.study(ONE.uid) is None
    assert [action for action, *_ in site.audited()] == ["delete", "reindex", "delete-finished"]


@only_sqlite
def test_what_the_archive_has_still_does_not_come_back_with_a_file_that_its_owner_sends(
    site: Site, archive: DicomWebArchive
) -> None:
    stopped = site.run("delete", ONE.uid, "--yes", ARCHIVE_URL="http://127.0.0.1:9/dicom-web")
    assert stopped.exit_code == 1
    assert claim(site, NORTH) is Granted.WAIT
    assert claim(site, SOUTH) is Refusal.STUDY_OWNED
    refresh(site.catalog, archive, ONE.uid, stable_age_seconds=0, busy=lambda: False)
    with site.catalog.read() as connection:
        assert ownership.dirty(connection, [NORTH]) == []
    assert (row(site)["state"], row(site)["patient_id"]) == ("deleted", "")
    assert claim(site, NORTH) is Granted.WAIT
    site.done("delete", ONE.uid)
    assert claim(site, NORTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_a_deletion_whose_end_was_not_written_is_ended_by_the_next(
    site: Site, archive: DicomWebArchive
) -> None:
    commands = platform(site, archive)
    deletion.bury(commands, ONE.uid)
    archive.delete(ONE.uid)
    assert "is deleted from the archive" in site.done("delete", ONE.uid)
    assert claim(site, NORTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_what_its_owner_sent_again_meanwhile_is_not_removed(site: Site, archive: DicomWebArchive) -> None:
    site.done("delete", ONE.uid, "--yes")
    file_study(site.catalog, archive, NORTH, ONE.file(1, 1))
    with pytest.raises(StudyError, match="sent again"):
        deletion.remove(platform(site, archive), ONE.uid)
    assert archive.study(ONE.uid) is not None


def test_while_the_archive_removes_it_nobody_waits_for_the_catalog(
    site: Site, archive: DicomWebArchive
) -> None:
    class Slow(Failing):
        def delete(self, _study_uid: object) -> None:
            asked.append(claim(site, NORTH))
            self.archive.delete(ONE.uid)

    asked: list[object] = []
    commands = platform(site, Slow(archive, 99))
    deletion.bury(commands, ONE.uid)
    deletion.remove(commands, ONE.uid)
    assert asked == [Granted.WAIT]
    assert claim(site, NORTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_of_two_deletions_the_later_one_says_when_it_is_done(site: Site, archive: DicomWebArchive) -> None:
    class Overtaken(Failing):
        def delete(self, _study_uid: object) -> None:
            with pytest.raises(ArchiveUnavailableError):
                deletion.remove(platform(site, Failing(archive, 1, frozenset({"delete"}))), ONE.uid)
            self.archive.delete(ONE.uid)

    commands = platform(site, Overtaken(archive, 99))
    deletion.bury(commands, ONE.uid)
    with pytest.raises(StudyError, match="another"):
        deletion.remove(commands, ONE.uid)
    assert claim(site, NORTH) is Granted.WAIT
    site.done("delete", ONE.uid)
    assert claim(site, NORTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_files_that_are_on_their_way_are_waited_for(
    site: Site, archive: DicomWebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.catalog.write() as connection:
        ownership.mark(connection, ONE.uid, NOW)
    monkeypatch.setattr(studies, "PATIENCE_SECONDS", 0)
    refused = site.run("delete", ONE.uid, "--yes")
    assert (refused.exit_code, "are being imported" in refused.stderr) == (2, True)
    assert row(site)["state"] == "confirmed"


@pytest.mark.config
@only_sqlite
def test_a_study_on_its_way_to_another_clinic_gets_there_no_more(
    site: Site, archive: DicomWebArchive
) -> None:
    with site.catalog.write() as connection:
        study = transfers.owned(connection, ONE.uid)
        assert study
        transfers.begin(connection, study, SOUTH, NOW)
    site.done("delete", ONE.uid, "--yes")
    assert (row(site)["state"], row(site)["clinic_id"]) == ("deleted", SOUTH)
    assert archive.study(ONE.uid) is None
    assert site.done("transfer") == "no transfer is under way\n"
    assert [each["detail"] for each in site.rows(audit)] == ["transfer from northside ended", ""]
    assert claim(site, NORTH) is Refusal.STUDY_OWNED
    assert claim(site, SOUTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_what_nobody_owns_is_not_deleted(site: Site, archive: DicomWebArchive) -> None:
    refused = site.run("delete", "1.2.3.4", "--yes")
    assert (refused.exit_code, "knows no study" in refused.stderr) == (2, True)


@pytest.mark.config
@only_sqlite
def test_an_archive_that_goes_on_listing_it_is_told(site: Site, archive: DicomWebArchive) -> None:
    class Forgetful(Failing):
        def delete(self, _study_uid: object) -> None:
            pass

    forgetful = platform(site, Forgetful(archive, 99))
    deletion.bury(forgetful, ONE.uid)
    with pytest.raises(StudyError, match="goes on listing"):
        deletion.remove(forgetful, ONE.uid)
    with pytest.raises(ArchiveUnavailableError):
        deletion.remove(platform(site, Failing(archive, 1, frozenset({"delete"}))), ONE.uid)
    assert [action for action, *_ in site.audited()] == ["delete"]
