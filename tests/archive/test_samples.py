"""The sample studies: complete, well formed, the same everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

from demo.samples import SAMPLES, Sample, study_uids, write_samples

if TYPE_CHECKING:
    from pathlib import Path


# Making the samples takes seconds: one worker does it for all.
pytestmark = pytest.mark.xdist_group("samples")


@pytest.fixture(scope="session")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples")
    steps: list[tuple[int, int]] = []
    write_samples(path, lambda done, total: steps.append((done, total)))
    total = sum(sample.instances for sample in SAMPLES)
    assert steps == [(done, total) for done in range(1, total + 1)]
    return path


def read(inbox: Path, sample: Sample) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted((inbox / sample.clinic / sample.folder).iterdir())]


def test_both_clinics_have_studies_of_several_modalities() -> None:
    for clinic in ("northside", "southside"):
        own = [sample for sample in SAMPLES if sample.clinic == clinic]
        assert 3 <= len(own) <= 5
        assert len({modality for sample in own for modality in sample.modalities}) >= 4
        assert len({sample.date for sample in own}) == len(own)
        assert study_uids(clinic) == [sample.study_uid for sample in own]
    assert len(set(study_uids())) == len(SAMPLES)


def test_uids_are_the_same_on_every_machine() -> None:
    assert SAMPLES[0].study_uid == "2.25.327339066406592447896437657095010697873"


def test_files_are_as_many_and_as_small_as_promised(inbox: Path) -> None:
    files = [path for path in inbox.rglob("*") if path.is_file()]
    assert len(files) == sum(sample.instances for sample in SAMPLES)
    assert {path.suffix for path in files} == {".dcm"}
    assert sum(path.stat().st_size for path in files) < 60_000_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.folder)
def test_a_study_says_what_its_description_says(inbox: Path, sample: Sample) -> None:
    datasets = read(inbox, sample)
    assert {str(each.StudyInstanceUID) for each in datasets} == {sample.study_uid}
    assert {str(each.PatientName) for each in datasets} == {sample.patient_name}
    assert {each.Modality for each in datasets} == set(sample.modalities)
    assert len({each.SOPInstanceUID for each in datasets}) == sample.instances
    assert len({each.SeriesInstanceUID for each in datasets}) == len(sample.modalities)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.folder)
def test_every_value_is_valid_by_its_vr(inbox: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for dataset in read(inbox, sample)[::20]:
        for element in dataset.iterall():
            assert element.value is not None or element.VM == 0


@pytest.mark.parametrize("folder", ["mr-brain-t1", "mr-brain-t2", "ct-chest-abdomen", "ct-abdomen"])
def test_volumes_have_the_geometry_that_mpr_needs(inbox: Path, folder: str) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == folder]
    slices = [each for each in read(inbox, sample) if each.Modality in {"MR", "CT"}]
    for keyword in ("FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        assert len({str(each[keyword].value) for each in slices}) == 1, keyword
    orientation = np.array(slices[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([each.ImagePositionPatient for each in slices], dtype=float)
    steps = np.diff(positions, axis=0)
    assert np.allclose(steps, steps[0], atol=1e-3)
    assert np.isclose(abs(steps[0] @ normal), slices[0].SliceThickness)
    assert np.isclose(np.linalg.norm(steps[0]), slices[0].SliceThickness)


def test_ct_numbers_are_right(inbox: Path) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == "ct-chest-abdomen"]
    slices = [each for each in read(inbox, sample) if each.Modality == "CT"]
    volume = np.stack([each.pixel_array * each.RescaleSlope + each.RescaleIntercept for each in slices])
    corner, lung = volume[:, :20, :20].mean(), volume[60, 150:170, 85:100].mean()
    assert abs(corner + 1000) < 5
    assert -900 < lung < -600
    assert volume.max() > 600


def test_the_brain_lies_the_right_way_round(inbox: Path) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == "mr-brain-t1"]
    slices = read(inbox, sample)
    assert all(a.ImagePositionPatient[2] < b.ImagePositionPatient[2] for a, b in pairwise(slices))
    filled = [float((each.pixel_array > 200).mean()) for each in slices]
    # The brain stem is at the lower end, and there is more brain in the middle.
    assert filled[10] < 0.15
    assert filled[85] > 0.4


def test_the_report_refers_to_a_slice_that_exists(inbox: Path) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == "ct-chest-abdomen"]
    datasets = read(inbox, sample)
    (report,) = [each for each in datasets if each.Modality == "SR"]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    target = evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert target in {each.SOPInstanceUID for each in datasets if each.Modality == "CT"}


def test_the_pdf_has_a_sound_cross_reference_table(inbox: Path) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == "outside-report"]
    (dataset,) = read(inbox, sample)
    pdf = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[1])  # type: ignore[index]
    offsets = [int(line[:10]) for line in pdf[start:].split(b"\n")[3:9]]
    assert [pdf[offset:].split(b" ", 1)[0] for offset in offsets] == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_the_cine_decodes_to_colour_that_moves(inbox: Path) -> None:
    (sample,) = [sample for sample in SAMPLES if sample.folder == "us-heart"]
    (dataset,) = read(inbox, sample)
    frames = pydicom.pixels.pixel_array(dataset)
    assert frames.shape == (32, 480, 640, 3)
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 100


def test_dcmtk_reads_them_without_a_word(inbox: Path) -> None:
    program = shutil.which("dcmdump")
    if program is None:
        pytest.skip("dcmtk is not installed")
    files = [str(next((inbox / sample.clinic / sample.folder).iterdir())) for sample in SAMPLES]
    told = subprocess.run([program, *files], capture_output=True, text=True, check=True, timeout=30).stderr
    assert [line for line in told.splitlines() if "Specific Character Set" not in line] == []
