"""`clinicpacs conflicts`: the four refusals, told so that a clinic understands them, and settled."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from admin.correction import Correction
from admin.rewriting import Rewriting
from importer.dicom.part10 import read_instance
from importer.files.filing import Filer
from pacs.catalog import ownership, transfers
from pacs.catalog.ownership import Claim, Refusal
from pacs.catalog.schema import audit, studies
from pacs.ids import ClinicId, Uid
from support.corpus import PATIENTS, SamplePatient, instance_bytes, make_instance
from support.dicom_files import opened, tag_bytes
from support.site import DAY, NORTH, NOW, SOUTH, Site, store

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

    from admin.rewriting import Change

STUDY, SERIES = Uid("1.2.3"), Uid("1.2.3.1")
OTHER = SamplePatient("SAMPLE-9", "Sample^Boreal", "ISO_IR 100")
CORRECTION = Correction("SAMPLE-1", NOW)


def own(site: Site, clinic: ClinicId, *, study: Uid = STUDY, patient_id: str = "SAMPLE-1") -> None:
    with site.catalog.write() as connection:
        ownership.reserve(connection, Claim(clinic, study, SERIES, patient_id), NOW)
        ownership.confirm(connection, study, [SERIES], NOW)


def refuse(site: Site, path: str, refusal: Refusal, clinic: ClinicId = NORTH, **options: object) -> bytes:
    chosen = {"study_uid": STUDY, "series_uid": SERIES, "sop_instance_uid": None} | options
    content = instance_bytes(**chosen)
    site.fail(path, content, refusal, clinic)
    return content


def open_failures(site: Site, clinic: ClinicId = NORTH) -> list[str]:
    return [path for path, file in site.failures(clinic).items() if not file.dismissed]


@pytest.fixture
def clinics(site: Site) -> Site:
    site.add_clinics()
    return site


@pytest.fixture
def one(sqlite_site: Site) -> Site:
    sqlite_site.add_clinics()
    return sqlite_site


def test_no_conflicts_are_told_as_such(one: Site) -> None:
    one.fail("broken.dcm", b"cut off")
    assert one.done("conflicts") == "no conflicts\n"


def test_conflicts_are_told_to_programs(one: Site) -> None:
    assert one.done("conflicts", "--json") == ""
    own(one, NORTH)
    refuse(one, "study/\udce4.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    found = json.loads(one.done("conflicts", "--json"))
    assert found == json.loads(one.done("conflicts", NORTH, "--json"))
    assert one.done("conflicts", SOUTH, "--json") == ""
    assert found["name"] == one.conflict
    assert found["files"] == [f"failed/{NORTH}/{DAY}/study/\udce4.dcm"]
    assert (found["clinic_id"], found["owner"], found["stands"]) == (NORTH, NORTH, True)
    assert (found["patient_ids"], found["registered"]["patient_id"]) == (["SAMPLE-9"], "SAMPLE-1")
    assert one.run("conflicts", "--json", "--dismiss", found["name"]).exit_code == 2


def test_a_study_of_another_clinic_is_told_with_its_owner(clinics: Site) -> None:
    own(clinics, SOUTH)
    for number in range(5):
        refuse(clinics, f"study/{number}.dcm", Refusal.STUDY_OWNED, instance_number=number)
    told = clinics.done("conflicts")
    name = clinics.conflict
    assert f"{name} northside: study-owned-by-another-clinic" in told
    assert f"5 files of study {STUDY}" in told
    assert "belongs to Southside (southside), who sent it first" in told
    assert f"failed/northside/{DAY}/study/0.dcm" in told
    assert "and 2 more files" in told
    for way in (
        f"--share {name} --until DAY",
        f"--transfer {name}",
        f"--copy {name}",
        f"--reject {name} --reason",
    ):
        assert f"clinicpacs conflicts {way}" in told
    assert clinics.done("conflicts", SOUTH) == "no conflicts\n"


def test_a_series_of_another_clinic_is_told_with_both_studies(clinics: Site) -> None:
    own(clinics, SOUTH, study=Uid("1.2.4"))
    refuse(clinics, "a.dcm", Refusal.SERIES_OWNED)
    told = clinics.done("conflicts")
    assert f"1 file of series {SERIES} in study {STUDY}" in told
    assert "belongs to Southside (southside), who sent it first in study 1.2.4" in told


def test_a_series_of_another_study_is_told(clinics: Site) -> None:
    own(clinics, NORTH, study=Uid("1.2.4"))
    refuse(clinics, "a.dcm", Refusal.SERIES_IN_ANOTHER_STUDY)
    assert "The same clinic has sent this series in study 1.2.4" in clinics.done("conflicts")


def test_another_patient_id_is_told_with_both(clinics: Site) -> None:
    own(clinics, NORTH)
    refuse(clinics, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    told = clinics.done("conflicts")
    assert "The files say Patient ID 'SAMPLE-9'" in told
    assert "registered under 'SAMPLE-1'" in told
    assert f"--correct-patient-id {clinics.conflict}" in told


def test_a_study_without_an_owner_is_told_with_what_gives_it_one(clinics: Site) -> None:
    refuse(clinics, "a.dcm", Refusal.STUDY_OWNERLESS)
    told, name = clinics.done("conflicts"), clinics.conflict
    assert f"{name} northside: study-without-owner" in told
    assert "the catalog has no owner" in told
    assert "clinicpacs reindex" in told
    for way in ("--retry", "--copy", "--reject"):
        assert f"clinicpacs conflicts {way} {name}" in told
    own(clinics, SOUTH)
    told = clinics.done("conflicts")
    assert f"{name} northside: study-owned-by-another-clinic" in told
    assert f"clinicpacs conflicts --transfer {name}" in told
    assert "would be refused again" in clinics.run("conflicts", "--retry", name).stderr


def test_files_of_a_study_without_an_owner_can_be_tried_again(one: Site) -> None:
    """Only the archive knows whether it was removed from there."""
    refuse(one, "a.dcm", Refusal.STUDY_OWNERLESS)
    with one.archive():
        one.done("conflicts", "--retry", one.conflict)
    assert one.in_inbox() == ["a.dcm"]


@pytest.mark.parametrize("refusal", list(Refusal))
def test_what_is_no_longer_in_the_way_can_be_imported(clinics: Site, refusal: Refusal) -> None:
    """The owner's reservation was dropped, or fits by now."""
    refuse(clinics, "a.dcm", refusal)
    if refusal is not Refusal.STUDY_OWNERLESS:
        assert "What was in the way is gone." in clinics.done("conflicts")
    own(clinics, NORTH)
    assert "What was in the way is gone." in clinics.done("conflicts")
    with clinics.archive():
        clinics.done("conflicts", "--retry", clinics.conflict)
    assert clinics.in_inbox() == ["a.dcm"]
    assert clinics.audited() == [("retry-conflict", NORTH, True)]


@pytest.mark.parametrize(
    ("refusal", "owner", "study", "patient"),
    [
        (Refusal.STUDY_OWNED, SOUTH, STUDY, "latin"),
        (Refusal.SERIES_OWNED, SOUTH, Uid("1.2.4"), "latin"),
        (Refusal.SERIES_IN_ANOTHER_STUDY, NORTH, Uid("1.2.4"), "latin"),
        (Refusal.PATIENT_ID_DIFFERS, NORTH, STUDY, "kazakh"),
    ],
)
def test_what_stands_is_not_put_back(
    clinics: Site, refusal: Refusal, owner: ClinicId, study: Uid, patient: str
) -> None:
    own(clinics, owner, study=study)
    refuse(clinics, "a.dcm", refusal, patient=patient)
    result = clinics.run("conflicts", "--retry", clinics.conflict, "--force")
    assert result.exit_code == 2
    assert f"conflict {clinics.conflict} stands" in result.stderr
    assert clinics.in_inbox() == []


def test_a_conflict_is_dismissed_and_no_other(one: Site) -> None:
    own(one, SOUTH)
    refuse(one, "study/a.dcm", Refusal.STUDY_OWNED)
    refuse(one, "study/b.dcm", Refusal.STUDY_OWNED, instance_number=2)
    refuse(one, "elsewhere.dcm", Refusal.STUDY_OWNED, study_uid="1.9")
    one.done("conflicts", "--dismiss", one.conflicts[0])
    assert open_failures(one) == ["elsewhere.dcm"]
    (row,) = one.rows(audit)
    assert (row["action"], row["clinic_id"], row["study_uid"], row["count"]) == (
        "dismiss-conflict",
        NORTH,
        STUDY,
        2,
    )


def test_a_conflict_keeps_its_name_whatever_is_listed_or_settled(one: Site) -> None:
    own(one, SOUTH)
    refuse(one, "a.dcm", Refusal.STUDY_OWNED)
    refuse(one, "b.dcm", Refusal.PATIENT_ID_DIFFERS, clinic=SOUTH, patient=OTHER)
    first, second = one.conflicts
    assert f"{second} southside: patient-id-differs" in one.done("conflicts", SOUTH)
    one.done("conflicts", "--dismiss", first.upper())
    assert one.conflicts == [second]
    refuse(one, "c.dcm", Refusal.STUDY_OWNED, study_uid="1.2")
    assert one.conflicts[1:] == [second]
    assert f"there is no conflict {first}" in one.run("conflicts", "--dismiss", first).stderr
    assert open_failures(one, SOUTH) == ["b.dcm"]


@pytest.mark.config
def test_a_name_of_two_conflicts_settles_neither(one: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.conflicts._NAME_LENGTH", 0)
    refuse(one, "a.dcm", Refusal.STUDY_OWNED)
    refuse(one, "b.dcm", Refusal.STUDY_OWNED, study_uid="1.9")
    result = one.run("conflicts", "--dismiss", "")
    assert (result.exit_code, "several conflicts" in result.stderr) == (2, True)
    assert open_failures(one) == ["a.dcm", "b.dcm"]


@pytest.mark.parametrize("option", ["--dismiss", "--retry", "--correct-patient-id"])
def test_a_name_of_no_conflict_is_one_sentence(one: Site, option: str) -> None:
    result = one.run("conflicts", option, "7")
    assert result.exit_code == 2
    assert "there is no conflict 7" in result.stderr


def test_two_settlements_at_once_are_wrong_usage(one: Site) -> None:
    assert one.run("conflicts", "--dismiss", "3f9a1c0d", "--retry", "3f9a1c0d").exit_code == 2


def test_a_corrected_copy_is_imported_and_the_original_stays(one: Site) -> None:
    own(one, NORTH)
    content = refuse(one, "study/a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    told = one.done("conflicts", "--correct-patient-id", one.conflict, typed="y\n")
    assert "The files name 'SAMPLE-9' (Sample^Boreal, born 19700101)" in told
    assert one.in_inbox() == ["study/a.dcm"]
    corrected = dcmread(one.inbox / NORTH / "study" / "a.dcm")
    assert corrected.PatientID == "SAMPLE-1"
    (item,) = corrected.OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].PatientID == "SAMPLE-9"
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("clinicpacs", "CORRECT")
    assert (one.failed / NORTH / DAY / "study" / "a.dcm").read_bytes() == content
    assert open_failures(one) == []
    (row,) = one.rows(audit)
    assert (row["action"], row["study_uid"]) == ("correct-patient-id", STUDY)
    assert one.done("conflicts") == "no conflicts\n"


def test_who_does_not_say_yes_changes_nothing(one: Site) -> None:
    own(one, NORTH)
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    for typed in ("n\n", "\n", ""):
        assert one.run("conflicts", "--correct-patient-id", one.conflict, typed=typed).exit_code == 1
    assert one.in_inbox() == []
    assert open_failures(one) == ["a.dcm"]
    assert one.audited() == []


def test_only_a_patient_id_is_corrected_like_this(one: Site) -> None:
    own(one, SOUTH)
    refuse(one, "a.dcm", Refusal.STUDY_OWNED)
    result = one.run("conflicts", "--correct-patient-id", one.conflict, "--yes")
    assert result.exit_code == 2
    assert "is not about a Patient ID" in result.stderr


def test_a_file_of_another_clinics_study_is_not_corrected_into_it(one: Site) -> None:
    """The study went to southside after northside's file had failed."""
    own(one, SOUTH)
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    result = one.run("conflicts", "--correct-patient-id", one.conflict, "--yes")
    assert result.exit_code == 2
    assert "is not northside's any more" in result.stderr
    assert one.in_inbox() == []


def test_a_deleted_study_is_not_in_the_way_and_gives_nobody_its_empty_patient_id(one: Site) -> None:
    own(one, NORTH)
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    with one.catalog.write() as connection:
        study = transfers.owned(connection, STUDY, lock=True)
        assert study
        transfers.bury(connection, study, NOW)
    assert "What was in the way is gone." in one.done("conflicts")
    result = one.run("conflicts", "--correct-patient-id", one.conflict, "--yes")
    assert (result.exit_code, "has no Patient ID" in result.stderr) == (2, True)
    assert one.in_inbox() == []
    with one.archive():
        one.done("conflicts", "--retry", one.conflict)
    assert one.in_inbox() == ["a.dcm"]


@pytest.mark.config
def test_a_deleted_study_of_another_clinic_is_in_the_way(one: Site) -> None:
    own(one, SOUTH)
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    with one.catalog.write() as connection:
        connection.execute(studies.update().values(state="deleted", patient_id=""))
    assert "stands" in one.run("conflicts", "--retry", one.conflict).stderr


def test_a_character_set_that_cannot_hold_the_patient_id_is_told(one: Site) -> None:
    own(one, NORTH, patient_id="Әсем-1")
    refuse(one, "latin.dcm", Refusal.PATIENT_ID_DIFFERS, patient="latin")
    refuse(one, "kazakh.dcm", Refusal.PATIENT_ID_DIFFERS, patient="kazakh", instance_number=2)
    result = one.run("conflicts", "--correct-patient-id", one.conflict, "--yes")
    assert result.exit_code == 1
    assert "its character set cannot hold the study's PatientID" in result.stderr
    assert one.in_inbox() == ["kazakh.dcm"]
    assert open_failures(one) == ["latin.dcm"]


def rewritten(site: Site, path: str, change: Change) -> str:
    return Rewriting(site.failed, site.inbox).apply(site.failures()[path], change)


def test_what_is_being_written_is_not_swept_away_by_an_importer_that_starts(one: Site) -> None:
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    importer = Filer(one.inbox, one.data / "processed", one.failed, now=lambda: NOW)

    class Meanwhile(Correction):
        def make(self, dataset: Dataset) -> None:
            importer.sweep(NORTH)
            super().make(dataset)

    assert rewritten(one, "a.dcm", Meanwhile("SAMPLE-1", NOW)) == "a.dcm"
    assert dcmread(one.inbox / NORTH / "a.dcm").PatientID == "SAMPLE-1"


def elements(ds: FileDataset) -> dict[object, object]:
    left_out = {0x00100020, 0x04000561}
    return {each.tag: each for each in ds if each.tag not in left_out and each.tag.element != 0}


@pytest.mark.parametrize(
    ("modality", "syntax"),
    [
        ("CT", ImplicitVRLittleEndian),
        ("CT", ExplicitVRLittleEndian),
        ("CT", ExplicitVRBigEndian),
        ("CT", DeflatedExplicitVRLittleEndian),
        ("US", RLELossless),
        ("MR", JPEG2000Lossless),
        ("SR", ExplicitVRLittleEndian),
        ("PDF", ExplicitVRLittleEndian),
    ],
)
def test_nothing_but_the_patient_id_is_changed(one: Site, modality: str, syntax: str) -> None:
    content = instance_bytes(modality, transfer_syntax=syntax, patient="japanese")
    one.fail("a.dcm", content, "patient-id-differs")
    assert rewritten(one, "a.dcm", CORRECTION) == "a.dcm"
    corrected = dcmread(one.inbox / NORTH / "a.dcm")
    assert corrected.PatientID == "SAMPLE-1"
    assert elements(corrected) == elements(dcmread(BytesIO(content)))
    assert corrected.file_meta.TransferSyntaxUID == syntax


def test_a_data_set_without_file_meta_is_given_one(one: Site) -> None:
    ds = make_instance(transfer_syntax=ImplicitVRLittleEndian, patient=OTHER)
    place = one.data / "bare"
    place.parent.mkdir(exist_ok=True)
    ds.save_as(place, enforce_file_format=False, implicit_vr=True, little_endian=True)
    content = place.read_bytes()
    bare = content[content.index(b"\x08\x00\x05\x00") :]
    one.fail("bare", bare, "patient-id-differs")
    rewritten(one, "bare", CORRECTION)
    corrected = dcmread(one.inbox / NORTH / "bare")
    assert (corrected.PatientID, corrected.PatientName) == ("SAMPLE-1", "Sample^Boreal")
    assert corrected.pixel_array.shape == (32, 32)


def test_a_corrected_instance_is_still_tagged_by_the_importer_last(one: Site) -> None:
    refuse(one, "a.dcm", Refusal.PATIENT_ID_DIFFERS, patient=OTHER)
    rewritten(one, "a.dcm", CORRECTION)
    tagged = tag_bytes((one.inbox / NORTH / "a.dcm").read_bytes(), SOUTH)
    with opened(tagged) as fd:
        assert read_instance(fd).patient_id == "SAMPLE-1"
    one.add_clinics()
    with one.archive() as archive:
        store(archive, tagged)
        assert "1 got their owner back (southside)" in one.done("reindex")
    assert one.rows(studies)[0]["patient_id"] == PATIENTS["latin"].id
