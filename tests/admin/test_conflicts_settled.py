"""`clinicpacs conflicts`: shared, transferred, copied, rejected."""

from __future__ import annotations

from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from admin.copying import new_uid
from pacs.catalog.ownership import Refusal
from pacs.catalog.schema import audit, studies, study_access
from support.corpus import make_instance, to_bytes
from support.filed import Referral, file_study
from support.odd_files import with_elements
from support.raw import explicit
from support.site import DAY, NORTH, SOUTH, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import FileDataset

    from pacs.archive.dicomweb import DicomWebArchive

ONE, OTHER = Referral("one"), Referral("other")
FRAME, ELSEWHERE, WELL_KNOWN = "1.2.840.99.1", "1.2.840.99.2.1", "1.2.840.10008.1.4.1.1"


@pytest.fixture
def site(sqlite_site: Site) -> Site:
    return sqlite_site


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    """Southside has the study; northside's files of it failed."""
    site.add_clinics()
    with site.archive() as running:
        file_study(site.catalog, running, SOUTH, *ONE.files())
        yield running


def refuse(site: Site, *contents: bytes, refusal: Refusal = Refusal.STUDY_OWNED) -> None:
    for number, content in enumerate(contents):
        site.fail(f"study/{number}.dcm", content, refusal)


def dismissed(site: Site) -> list[bool]:
    return [file.dismissed for file in site.failures().values()]


def in_inbox(site: Site) -> list[FileDataset]:
    return [dcmread(site.inbox / NORTH / path) for path in site.in_inbox()]


def refused(site: Site, *arguments: str, typed: str | None = None) -> str:
    result = site.run("conflicts", *arguments, typed=typed)
    assert result.exit_code != 0, result.output
    return result.stderr


def test_the_owners_study_is_shared_and_the_files_are_dismissed(site: Site, archive: DicomWebArchive) -> None:
    refuse(site, *ONE.files(), ONE.file(1, 9))
    told = site.done("conflicts", "--share", site.conflict, "--until", "2999-12-31", typed="y\n")
    assert "1 of the files is not in the archive." in told
    assert "different from the archive's images" not in told
    assert f"northside will be allowed to read study {ONE.uid} of southside" in told
    (share,) = site.rows(study_access)
    assert (share["study_uid"], share["clinic_id"], share["until"]) == (ONE.uid, NORTH, date(2999, 12, 31))
    assert dismissed(site) == [True] * 5
    assert site.audited() == [("share", SOUTH, True), ("dismiss-conflict", NORTH, True)]
    assert site.done("conflicts") == "no conflicts\n"


@pytest.mark.config
def test_that_the_owner_has_other_images_is_told_before_they_are_shared(
    site: Site, archive: DicomWebArchive
) -> None:
    refuse(site, ONE.file(1, 1, seed="another"), ONE.file(1, 2))
    told = site.run("conflicts", "--share", site.conflict, "--until", "2999-12-31", typed="n\n").stdout
    assert "1 of the files is different from the archive's images." in told
    assert "--copy keeps all" in told
    site.env["ARCHIVE_URL"] = "http://127.0.0.1:9/dicom-web"
    told = site.run("conflicts", "--share", site.conflict, "--until", "2999-12-31", typed="n\n").stdout
    assert "Could not determine whether 2 of the files are in the archive unchanged." in told


@pytest.mark.config
def test_the_series_of_another_study_is_shared_with_that_study(site: Site, archive: DicomWebArchive) -> None:
    refuse(site, ONE.file(1, 1, study_uid=OTHER.uid), refusal=Refusal.SERIES_OWNED)
    told = site.done("conflicts")
    assert f"--share {site.conflict}" in told
    assert "--transfer" not in told
    site.done("conflicts", "--share", site.conflict, "--until", "2999-12-31", "--yes")
    assert [row["study_uid"] for row in site.rows(study_access)] == [ONE.uid]
    refuse(site, ONE.file(1, 1, study_uid=OTHER.uid), refusal=Refusal.SERIES_OWNED)
    assert "cannot be settled by transferring" in refused(site, "--transfer", site.conflict, "--yes")


def test_the_study_goes_to_who_sent_it_and_all_of_its_files_are_imported(
    site: Site, archive: DicomWebArchive
) -> None:
    """One has the UID of an image in the archive, and is another."""
    refuse(site, ONE.file(1, 1, seed="another"), *ONE.files()[1:], ONE.file(1, 9))
    told = site.done("conflicts", "--transfer", site.conflict, typed="y\n")
    assert f"southside will lose study {ONE.uid}" in told
    assert [row["clinic_id"] for row in site.rows(studies)] == [NORTH]
    assert site.in_inbox() == [f"study/{number}.dcm" for number in range(5)]
    assert dismissed(site) == []
    assert [action for action, *_ in site.audited()] == ["transfer", "transfer-finished", "retry-conflict"]


@pytest.mark.config
def test_files_wait_for_a_transfer_that_does_not_come_to_its_end(
    site: Site, archive: DicomWebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(site, ONE.file(1, 1))
    name = site.conflict
    monkeypatch.setattr("admin.retagging._RESERVE_BYTES", 1 << 60)
    assert "some images are not retagged yet" in refused(site, "--transfer", name, "--yes")
    assert site.in_inbox() == ["study/0.dcm"]


def linked(number: int) -> bytes:
    """An image that refers to others of its study, and beyond."""
    ds = make_instance(
        "CT",
        study_uid=ONE.uid,
        series_uid=ONE.series(1),
        sop_instance_uid=dcmread(BytesIO(ONE.file(1, number))).SOPInstanceUID,
    )
    ds.FrameOfReferenceUID = FRAME
    ds.SynchronizationFrameOfReferenceUID = FRAME
    ds.ReferencedImageSequence = Sequence([reference(sop(1, 2)), reference(ELSEWHERE)])
    series = Dataset()
    series.SeriesInstanceUID = "1.2.840.99.3"
    series.ReferencedInstanceSequence = Sequence([reference("1.2.840.99.3.1")])
    ds.ReferencedSeriesSequence = Sequence([series])
    prior = Dataset()
    prior.StudyInstanceUID = "1.2.840.99.4"
    prior.ReferencedSeriesSequence = Sequence([series])
    ds.StudiesContainingOtherReferencedInstancesSequence = Sequence([prior])
    atlas = Dataset()
    atlas.FrameOfReferenceUID = WELL_KNOWN
    ds.ReferencedFrameOfReferenceSequence = Sequence([atlas])
    return to_bytes(ds)


def reference(sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = sop_uid
    return item


def sop(series: int, number: int) -> str:
    return str(dcmread(BytesIO(ONE.file(series, number))).SOPInstanceUID)


def test_a_copy_has_uids_of_its_own_in_itself_and_in_what_refers_to_it(
    site: Site, archive: DicomWebArchive
) -> None:
    content = linked(1)
    refuse(site, content)
    told = site.done("conflicts", "--copy", site.conflict, typed="y\n")
    assert "as a study of northside's own, under new UIDs" in told
    (copy,) = in_inbox(site)

    def new(old: str) -> str:
        return new_uid(NORTH, old)

    assert copy.StudyInstanceUID == new(ONE.uid)
    assert copy.SeriesInstanceUID == new(ONE.series(1))
    assert copy.SOPInstanceUID == copy.file_meta.MediaStorageSOPInstanceUID == new(sop(1, 1))
    assert copy.FrameOfReferenceUID == new(FRAME)
    assert copy.SynchronizationFrameOfReferenceUID == FRAME
    # In the owner's study, and not among these files.
    inside, outside = copy.ReferencedImageSequence
    assert inside.ReferencedSOPInstanceUID == new(sop(1, 2))
    assert outside.ReferencedSOPInstanceUID == ELSEWHERE
    (series,) = copy.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == new("1.2.840.99.3")
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == new("1.2.840.99.3.1")
    (prior,) = copy.StudiesContainingOtherReferencedInstancesSequence
    assert prior.StudyInstanceUID == "1.2.840.99.4"
    assert prior.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.840.99.3"
    assert copy.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == WELL_KNOWN
    before = copy.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    assert (before.StudyInstanceUID, before.SeriesInstanceUID) == (ONE.uid, ONE.series(1))
    assert (before.SOPInstanceUID, before.FrameOfReferenceUID) == (sop(1, 1), FRAME)
    was = dcmread(BytesIO(content))
    assert copy.PixelData == was.PixelData
    assert {element.tag for element in copy} - {element.tag for element in was} == {0x04000561}
    assert dismissed(site) == [True]
    assert site.audited() == [("copy-conflict", NORTH, True)]


@pytest.mark.config
def test_what_a_converter_left_untyped_refers_to_the_copy_too(site: Site, archive: DicomWebArchive) -> None:
    uid = sop(1, 1).encode()
    untyped = explicit(0x00081155, b"UN", uid + b"\0" * (len(uid) % 2))
    refuse(site, with_elements(ONE.file(1, 1), {0x00081155: untyped}))
    site.done("conflicts", "--copy", site.conflict, typed="y\n")
    (copy,) = in_inbox(site)
    assert copy.ReferencedSOPInstanceUID == copy.SOPInstanceUID == new_uid(NORTH, sop(1, 1))


def test_a_later_batch_finds_the_copy_and_a_second_run_makes_no_other(
    site: Site, archive: DicomWebArchive
) -> None:
    refuse(site, ONE.file(1, 7))
    site.done("conflicts", "--copy", site.conflict, "--yes")
    (first,) = [path.read_bytes() for path in (site.inbox / NORTH).rglob("*.dcm")]
    file_study(site.catalog, archive, NORTH, first)
    later = dcmread(BytesIO(ONE.file(1, 8)))
    later.ReferencedImageSequence = Sequence([reference(sop(1, 7))])
    (site.inbox / NORTH / "study" / "0.dcm").unlink()
    refuse(site, to_bytes(later), ONE.file(1, 7))
    site.done("conflicts", "--copy", site.conflict, "--yes")
    second, again = in_inbox(site)
    assert second.StudyInstanceUID == again.StudyInstanceUID == dcmread(BytesIO(first)).StudyInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == again.SOPInstanceUID
    assert again.SOPInstanceUID == dcmread(BytesIO(first)).SOPInstanceUID
    assert second.SOPInstanceUID == new_uid(NORTH, sop(1, 8))
    assert new_uid(SOUTH, ONE.uid) != second.StudyInstanceUID


@pytest.mark.config
@pytest.mark.parametrize("refusal", [Refusal.SERIES_OWNED, Refusal.SERIES_IN_ANOTHER_STUDY])
def test_a_series_is_copied_within_its_study(site: Site, archive: DicomWebArchive, refusal: Refusal) -> None:
    if refusal is Refusal.SERIES_IN_ANOTHER_STUDY:
        site.done("transfer", ONE.uid, "--to", NORTH)
    refuse(site, ONE.file(1, 1, study_uid=OTHER.uid), refusal=refusal)
    assert "as a series of northside's own" in site.done("conflicts", "--copy", site.conflict, "--yes")
    (copy,) = in_inbox(site)
    assert copy.StudyInstanceUID == OTHER.uid
    assert copy.SeriesInstanceUID == new_uid(NORTH, ONE.series(1))
    assert copy.SOPInstanceUID == new_uid(NORTH, sop(1, 1))
    assert "StudyInstanceUID" not in copy.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]


def test_files_are_rejected_with_the_reason_on_record(site: Site, archive: DicomWebArchive) -> None:
    refuse(site, *ONE.files())
    site.done("conflicts", "--reject", site.conflict, "--reason", "dropped into the wrong inbox", typed="y\n")
    (row,) = site.rows(audit)
    assert (row["action"], row["detail"], row["count"]) == (
        "reject-conflict", "dropped into the wrong inbox", 4,
    )  # fmt: skip
    assert dismissed(site) == [True] * 4
    assert (site.failed / NORTH / DAY / "study" / "0.dcm").read_bytes() == ONE.files()[0]


@pytest.mark.config
@pytest.mark.parametrize(
    "way", [["--until", "2999-12-31", "--share"], ["--transfer"], ["--copy"], ["--reason", "why", "--reject"]]
)
def test_who_does_not_agree_changes_nothing(site: Site, archive: DicomWebArchive, way: list[str]) -> None:
    refuse(site, *ONE.files())
    assert refused(site, *way, site.conflict, typed="n\n") == "Aborted!\n"
    assert (dismissed(site), site.audited(), site.in_inbox()) == ([False] * 4, [], [])


@pytest.mark.config
def test_what_is_asked_for_must_go_together(site: Site, archive: DicomWebArchive) -> None:
    refuse(site, *ONE.files())
    name = site.conflict
    for arguments in (
        ["--share", name], ["--until", "2999-12-31"], ["--reject", name], ["--reject", name, "--reason", " "],
        ["--copy", name, "--transfer", name], ["--copy", "00000000", "--yes"],
        ["--share", name, "--until", "2000-01-01", "--yes"],
    ):  # fmt: skip
        assert refused(site, *arguments)
    assert (dismissed(site), site.audited(), site.in_inbox()) == ([False] * 4, [], [])


@pytest.mark.config
def test_a_study_that_cannot_be_read_is_neither_shared_nor_transferred(
    site: Site, archive: DicomWebArchive
) -> None:
    refuse(site, *ONE.files())
    with site.catalog.write() as connection:
        connection.execute(studies.update().values(state="deleted"))
    told = site.done("conflicts")
    assert ("--share" in told, "--transfer" in told, "--copy" in told) == (False, False, True)
    assert "it was deleted" in refused(site, "--share", site.conflict, "--until", "2999-12-31", "--yes")
    assert "it was deleted" in refused(site, "--transfer", site.conflict, "--yes")
    assert dismissed(site) == [False] * 4


@pytest.mark.config
def test_a_silent_archive_copies_nothing(site: Site, archive: DicomWebArchive) -> None:
    """Which references lead into the study only the archive knows."""
    refuse(site, *ONE.files())
    site.env["ARCHIVE_URL"] = "http://127.0.0.1:9/dicom-web"
    assert "is not available" in refused(site, "--copy", site.conflict, "--yes")
    assert (dismissed(site), site.audited(), site.in_inbox()) == ([False] * 4, [], [])
