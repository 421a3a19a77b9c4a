"""`clinicpacs transfer`: the old owner loses the study first; at the end every image says whose it is.

What takes longer runs in `make test-config`.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from admin import studies, transfer
from admin.retagging import StudyGoneError, TransferError
from admin.studies import StudyError
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import ownership, transfers
from pacs.catalog.ownership import Granted
from pacs.catalog.schema import series, study_access
from pacs.catalog.schema import studies as studies_table
from support.dicom_files import tag_bytes
from support.filed import Failing, Referral, file_study, platform
from support.site import NORTH, NOW, SOUTH, Site
from support.transferring import (
    ONE,
    broken_off_it_goes_on,
    lost_it_does_not_come_back,
    stored,
    tags,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.archive.dicomweb import DicomWebArchive
    from pacs.ids import Uid

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OTHER = Referral("other")


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    site.add_clinics()
    with site.archive() as running:
        file_study(site.catalog, running, NORTH, *ONE.files())
        yield running


@pytest.fixture
def one(sqlite_site: Site) -> Iterator[tuple[Site, DicomWebArchive]]:
    sqlite_site.add_clinics()
    with sqlite_site.archive() as running:
        file_study(sqlite_site.catalog, running, NORTH, *ONE.files())
        yield sqlite_site, running


def row(site: Site, uid: Uid = ONE.uid) -> dict[str, Any]:
    (found,) = [each for each in site.rows(studies_table) if each["study_uid"] == uid]
    return found


def test_every_image_and_every_row_are_the_new_owners(site: Site, archive: DicomWebArchive) -> None:
    file_study(site.catalog, archive, NORTH, *OTHER.files())
    before, revision = stored(archive), row(site)["revision"]
    untouched = stored(archive, OTHER)
    told = site.done("transfer", ONE.uid, "--to", SOUTH)
    assert f"study {ONE.uid} is southside's now, and no longer northside's" in told
    assert f"4 images of study {ONE.uid} tagged for southside" in told
    after = row(site)
    assert (after["clinic_id"], after["state"]) == (SOUTH, "confirmed")
    assert after["marked"] == after["refreshed"]
    assert after["revision"] > revision
    assert SOUTH in after["dicom_json"]
    assert NORTH not in after["dicom_json"]
    assert {each["clinic_id"] for each in site.rows(series) if each["study_uid"] == ONE.uid} == {SOUTH}
    assert site.rows(transfers.transfers) == []
    assert site.audited() == [("transfer", NORTH, True), ("transfer-finished", SOUTH, True)]
    assert tags(archive) == {(SOUTH, 2)}
    for sop_uid, content in stored(archive).items():
        was, now = dcmread(BytesIO(before[sop_uid])), dcmread(BytesIO(content))
        *earlier, last = now.OriginalAttributesSequence
        assert earlier == list(was.OriginalAttributesSequence)
        assert last.ModifyingSystem == "clinicpacs"
        assert last.ModifiedAttributesSequence[0].InstitutionName == NORTH
        del was.InstitutionName, now.InstitutionName
        del was.OriginalAttributesSequence, now.OriginalAttributesSequence
        assert was == now
    assert stored(archive, OTHER) == untouched
    assert row(site, OTHER.uid)["clinic_id"] == NORTH
    assert site.done("transfer", ONE.uid, "--to", SOUTH) == f"study {ONE.uid} is southside's already\n"
    assert site.done("transfer") == "no transfer is under way\n"
    assert list(site.data.glob("tmp*")) == []


@pytest.mark.parametrize(("at", "after"), [(9, True)])
def test_broken_off_anywhere_it_goes_on(one: tuple[Site, DicomWebArchive], at: int, *, after: bool) -> None:
    """At every point: tests/chaos."""
    broken_off_it_goes_on(*one, at, after=after)


@pytest.mark.config
@pytest.mark.parametrize("at", [7, 8, 11])
def test_a_catalog_lost_meanwhile_does_not_come_back_with_the_old_owner(
    one: tuple[Site, DicomWebArchive], at: int, sqlite_template: Path
) -> None:
    """At every point: tests/chaos."""
    empty = one[0].data / "empty.db"
    shutil.copyfile(sqlite_template, empty)
    lost_it_does_not_come_back(*one, at, f"sqlite:///{empty}")


@pytest.mark.config
def test_the_list_names_the_new_owner_before_the_first_image_does(
    one: tuple[Site, DicomWebArchive],
) -> None:
    site, archive = one
    broken = platform(site, Failing(archive, 1, frozenset({"instance"})))
    begun = transfer.begin(broken, ONE.uid, SOUTH)
    assert begun
    with pytest.raises(TransferError, match="4 of 4 images"):
        transfer.go_on(broken, begun.transfer)
    assert tags(archive) == {(NORTH, 1)}
    assert NORTH not in row(site)["dicom_json"]


@dataclass
class Damaged(Failing):
    """An archive that cannot read one of its instances."""

    unreadable: str = ""
    is_there: bytes | None = None

    def instance(self, study_uid: Any, series_uid: Any, sop_instance_uid: Any) -> Any:
        if sop_instance_uid == self.unreadable and self.is_there is None:
            raise ArchiveUnavailableError("status-500")
        if sop_instance_uid == self.unreadable:
            return nullcontext(iter([self.is_there]))
        return self.archive.instance(study_uid, series_uid, sop_instance_uid)


@pytest.mark.parametrize(
    ("is_there", "why"),
    [
        (None, "status-500"),
        pytest.param(b"", "damaged", marks=pytest.mark.config),
        pytest.param(bytes(1000), "damaged", marks=pytest.mark.config),
        pytest.param(ONE.file(1, 1)[:700], "damaged", marks=pytest.mark.config),
    ],
)
def test_an_image_that_cannot_be_read_does_not_keep_the_others(
    one: tuple[Site, DicomWebArchive], is_there: bytes | None, why: str
) -> None:
    """Not the first one of a series either, which comes before all others."""
    site, archive = one
    damaged = Damaged(archive, 99, is_there=is_there)
    damaged.unreadable = min(stored(archive))
    commands = platform(site, damaged)
    begun = transfer.begin(commands, ONE.uid, SOUTH)
    assert begun
    for _ in range(2):
        with pytest.raises(TransferError, match=f"1 of 4 .*\n  {damaged.unreadable}: .*{why}"):
            transfer.go_on(commands, begun.transfer)
        owners = {uid: dcmread(BytesIO(each)).InstitutionName for uid, each in stored(archive).items()}
        assert owners == dict.fromkeys(owners, SOUTH) | {damaged.unreadable: NORTH}
    assert row(site)["marked"] == row(site)["refreshed"]
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.WAIT
    site.done("delete", ONE.uid, "--yes")
    assert site.done("transfer") == "no transfer is under way\n"
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.OWNED


@pytest.mark.config
def test_an_archive_that_falls_silent_is_not_asked_for_image_after_image(
    one: tuple[Site, DicomWebArchive],
) -> None:
    site, archive = one
    silent = Failing(archive, 3, frozenset({"study", "instance"}))
    begun = transfer.begin(platform(site, silent), ONE.uid, SOUTH)
    assert begun
    with pytest.raises(ArchiveUnavailableError):
        transfer.go_on(platform(site, silent), begun.transfer)
    # Twice for the study, then for the first images of both series, and each time whether it answers at all.
    assert silent.asked <= 2 + 2 * 2


@pytest.mark.config
def test_a_study_that_is_deleted_meanwhile_is_not_tagged_on(one: tuple[Site, DicomWebArchive]) -> None:
    site, archive = one

    class Deleted(Failing):
        def store(self, parts: Any) -> Any:
            with lock:
                if row(site)["state"] != "deleted":
                    site.done("delete", ONE.uid, "--yes")
                return self.archive.store(parts)

    lock = Lock()
    commands = platform(site, Deleted(archive, 99))
    begun = transfer.begin(commands, ONE.uid, SOUTH)
    assert begun
    with pytest.raises(StudyGoneError, match="clinicpacs delete"):
        transfer.go_on(commands, begun.transfer)
    assert row(site)["state"] == "deleted"
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.WAIT
    site.done("delete", ONE.uid)
    assert archive.study(ONE.uid) is None
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.OWNED


@pytest.mark.config
@only_sqlite
def test_shares_end_with_their_owner(site: Site, archive: DicomWebArchive) -> None:
    site.done("share", ONE.uid, "--with", SOUTH, "--until", "2999-12-31")
    assert "no longer shared with southside" in site.done("transfer", ONE.uid, "--to", SOUTH)
    assert site.rows(study_access) == []


@pytest.mark.config
def test_it_can_be_turned_back_at_once(one: tuple[Site, DicomWebArchive]) -> None:
    site, archive = one
    broken = platform(site, Failing(archive, 4, frozenset({"store"})))
    begun = transfer.begin(broken, ONE.uid, SOUTH)
    assert begun
    with pytest.raises(TransferError, match="1 of 4 images"):
        transfer.go_on(broken, begun.transfer)
    site.done("transfer", ONE.uid, "--to", NORTH)
    assert row(site)["clinic_id"] == NORTH
    assert {clinic for clinic, _ in tags(archive)} == {NORTH}
    with pytest.raises(StudyGoneError, match="to another clinic"):
        transfer.go_on(platform(site, archive), begun.transfer)
    assert {clinic for clinic, _ in tags(archive)} == {NORTH}


@pytest.mark.config
@only_sqlite
def test_files_that_are_on_their_way_are_waited_for(
    site: Site, archive: DicomWebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.catalog.write() as connection:
        ownership.mark(connection, ONE.uid, NOW)
    with monkeypatch.context() as impatient:
        impatient.setattr(studies, "PATIENCE_SECONDS", 0)
        refused = site.run("transfer", ONE.uid, "--to", SOUTH)
    assert (refused.exit_code, "are being imported" in refused.stderr) == (2, True)
    assert row(site)["clinic_id"] == NORTH
    waited = iter([None, None])

    def come_in(_seconds: float) -> None:
        if next(waited, "in") == "in":
            with site.catalog.write() as connection:
                connection.execute(studies_table.update().values(refreshed=studies_table.c.marked))

    monkeypatch.setattr(studies.time, "sleep", come_in)
    site.done("transfer", ONE.uid, "--to", SOUTH)
    assert tags(archive) == {(SOUTH, 2)}


@pytest.mark.config
def test_an_archive_that_keeps_old_bytes_is_no_place_for_it(one: tuple[Site, DicomWebArchive]) -> None:
    site, archive = one

    class Keeping(Failing):
        def overwrites(self) -> bool:
            return False

    with pytest.raises(StudyError, match="OverwriteInstances"):
        transfer.begin(platform(site, Keeping(archive, 99)), ONE.uid, SOUTH)
    assert row(site)["clinic_id"] == NORTH


@pytest.mark.config
def test_no_room_stops_it_and_nothing_is_lost(
    one: tuple[Site, DicomWebArchive], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, archive = one
    with monkeypatch.context() as full:
        full.setattr("admin.retagging._RESERVE_BYTES", 1 << 60)
        stopped = site.run("transfer", ONE.uid, "--to", SOUTH)
    assert stopped.exit_code == 1
    assert "No space left on device" in stopped.stderr
    assert f"clinicpacs transfer {ONE.uid}" in stopped.stderr
    assert tags(archive) == {(NORTH, 1)}
    site.done("transfer")
    assert tags(archive) == {(SOUTH, 2)}


@pytest.mark.config
def test_a_silent_archive_changes_nothing(one: tuple[Site, DicomWebArchive]) -> None:
    site, _ = one
    site.env["ARCHIVE_URL"] = "http://127.0.0.1:9/dicom-web"
    assert site.run("transfer", ONE.uid, "--to", SOUTH).exit_code == 2
    assert row(site)["clinic_id"] == NORTH
    assert site.audited() == []


@pytest.mark.config
def test_only_a_study_that_can_be_read_is_handed_over(one: tuple[Site, DicomWebArchive]) -> None:
    site, _ = one
    for state in ("provisional", "missing", "deleted"):
        with site.catalog.write() as connection:
            connection.execute(studies_table.update().values(state=state))
        assert site.run("transfer", ONE.uid, "--to", SOUTH).exit_code == 2
    assert row(site)["clinic_id"] == NORTH


@pytest.mark.config
def test_what_cannot_be_handed_over(one: tuple[Site, DicomWebArchive]) -> None:
    site, _ = one
    for arguments, why in (
        ((OTHER.uid, "--to", SOUTH), "the catalog knows no study"),
        ((ONE.uid, "--to", "nowhere"), "there is no clinic"),
        ((ONE.uid,), "no transfer of study"),
        (("--to", SOUTH), "--to needs a STUDY_UID"),
    ):
        refused = site.run("transfer", *arguments)
        assert (refused.exit_code, why in refused.stderr) == (2, True), refused.stderr


@pytest.mark.config
def test_a_deflated_image_stays_one(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    study = Referral("deflated", {"transfer_syntax": DeflatedExplicitVRLittleEndian})
    with site.archive() as archive:
        file_study(site.catalog, archive, NORTH, *study.files())
        site.done("transfer", study.uid, "--to", SOUTH)
        found = [dcmread(BytesIO(each)) for each in stored(archive, study).values()]
    assert {ds.file_meta.TransferSyntaxUID for ds in found} == {DeflatedExplicitVRLittleEndian}
    pixels = {dcmread(BytesIO(tag_bytes(each, SOUTH))).PixelData for each in study.files()}
    assert {ds.PixelData for ds in found} == pixels
