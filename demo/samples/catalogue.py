"""Which sample studies there are, and what is in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.samples.body import NODULE_CENTRE, ct_series
from demo.samples.brain import axial_t1, coronal_t2
from demo.samples.radiograph import chest, hand
from demo.samples.report import letter, pdf_report, structured_report
from demo.samples.study import Sample, Series
from demo.samples.ultrasound import cine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom.dataset import FileDataset

_CT_THICKNESS = 3.0

MR_BRAIN = Sample(
    clinic="northside",
    folder="mr-brain-t1",
    patient_name="Sample^Aurora",
    patient_id="N-1001",
    birth_date="19840214",
    sex="F",
    date="20250310",
    time="091500",
    description="MR brain",
    accession="NA250001",
    referring="Example^Greta^^Dr",
    modalities=("MR",),
    instances=136,
)
CT_CHEST = Sample(
    clinic="northside",
    folder="ct-chest-abdomen",
    patient_name="Sample^Boris",
    patient_id="N-1002",
    birth_date="19570903",
    sex="M",
    date="20250318",
    time="134000",
    description="CT chest and upper abdomen with contrast",
    accession="NA250002",
    referring="Example^Greta^^Dr",
    modalities=("CT", "SR"),
    instances=101,
)
CR_CHEST = Sample(
    clinic="northside",
    folder="cr-chest",
    patient_name="Үлгі^Әсел",
    patient_id="N-1003",
    birth_date="19921120",
    sex="F",
    date="20250402",
    time="102200",
    description="Кеуде қуысының рентгені (chest PA)",
    accession="NA250003",
    referring="Мысалов^Ғалым^^Dr",
    modalities=("CR",),
    instances=1,
)
OUTSIDE_REPORT = Sample(
    clinic="northside",
    folder="outside-report",
    patient_name="Sample^Dana",
    patient_id="N-1004",
    birth_date="19790630",
    sex="F",
    date="20250227",
    time="160500",
    description="Report from another institution",
    accession="NA250004",
    referring="Example^Hugo^^Dr",
    modalities=("DOC",),
    instances=1,
)
US_HEART = Sample(
    clinic="southside",
    folder="us-heart",
    patient_name="Sample^Cosmo",
    patient_id="S-2001",
    birth_date="19660117",
    sex="M",
    date="20250325",
    time="083000",
    description="Echocardiogram",
    accession="SA250001",
    referring="Specimen^Ivo^^Dr",
    modalities=("US",),
    instances=1,
)
MR_BRAIN_T2 = Sample(
    clinic="southside",
    folder="mr-brain-t2",
    patient_name="Sample^Delta",
    patient_id="S-2002",
    birth_date="20010508",
    sex="F",
    date="20250404",
    time="115500",
    description="MR brain, coronal T2",
    accession="SA250002",
    referring="Specimen^Jana^^Dr",
    modalities=("MR",),
    instances=54,
)
CR_HAND = Sample(
    clinic="southside",
    folder="cr-hand",
    patient_name="Sample^Echo",
    patient_id="S-2003",
    birth_date="20101212",
    sex="O",
    date="20250411",
    time="172000",
    description="Left hand",
    accession="SA250003",
    referring="Specimen^Ivo^^Dr",
    modalities=("CR", "DOC"),
    instances=2,
)
CT_ABDOMEN = Sample(
    clinic="southside",
    folder="ct-abdomen",
    patient_name="Sample^Felix",
    patient_id="S-2004",
    birth_date="19730329",
    sex="M",
    date="20250414",
    time="074500",
    description="CT upper abdomen",
    accession="SA250004",
    referring="Specimen^Jana^^Dr",
    modalities=("CT",),
    instances=40,
)


def _mr_brain() -> Iterator[FileDataset]:
    yield from axial_t1(Series(MR_BRAIN, 1, "MR", "T1 3D axial", "Sample MR", "BRAIN"))


def _ct_chest() -> Iterator[FileDataset]:
    images = Series(CT_CHEST, 1, "CT", "Chest and abdomen 3 mm", "Sample CT", "CHESTABDOMEN")
    slices = CT_CHEST.instances - 1
    yield from ct_series(
        images, columns=320, slices=slices, bottom=0.0, thickness=_CT_THICKNESS, lesions=True
    )
    key_image = 1 + round(NODULE_CENTRE[2] / _CT_THICKNESS)
    yield structured_report(Series(CT_CHEST, 2, "SR", "Report", "Sample workstation"), images, key_image)


def _cr_chest() -> Iterator[FileDataset]:
    yield chest(Series(CR_CHEST, 1, "CR", "Chest PA", "Sample CR", "CHEST", laterality=""))


def _outside_report() -> Iterator[FileDataset]:
    findings = ["Findings: none, for there was no examination.", "It shows how documents are read here."]
    series = Series(OUTSIDE_REPORT, 1, "DOC", "Outside report", "Sample scanner")
    yield pdf_report(series, "Report of an outside institution", letter(OUTSIDE_REPORT, findings))


def _us_heart() -> Iterator[FileDataset]:
    yield cine(Series(US_HEART, 1, "US", "Four chambers, colour", "Sample US", "HEART"))


def _mr_brain_t2() -> Iterator[FileDataset]:
    yield from coronal_t2(Series(MR_BRAIN_T2, 1, "MR", "T2 coronal 3 mm", "Sample MR", "BRAIN"))


def _cr_hand() -> Iterator[FileDataset]:
    yield hand(Series(CR_HAND, 1, "CR", "Left hand PA", "Sample CR", "HAND", laterality="L"))
    series = Series(CR_HAND, 2, "DOC", "Report", "Sample workstation")
    findings = ["Findings: no fracture, normal alignment.", "Impression: a hand of bars and spheres."]
    yield pdf_report(series, "Radiology report", letter(CR_HAND, findings))


def _ct_abdomen() -> Iterator[FileDataset]:
    series = Series(CT_ABDOMEN, 1, "CT", "Abdomen 4 mm", "Sample CT", "ABDOMEN")
    slices = CT_ABDOMEN.instances
    yield from ct_series(series, columns=256, slices=slices, bottom=-40.0, thickness=4.0, lesions=False)


CONTENTS: dict[Sample, Callable[[], Iterator[FileDataset]]] = {
    MR_BRAIN: _mr_brain,
    CT_CHEST: _ct_chest,
    CR_CHEST: _cr_chest,
    OUTSIDE_REPORT: _outside_report,
    US_HEART: _us_heart,
    MR_BRAIN_T2: _mr_brain_t2,
    CR_HAND: _cr_hand,
    CT_ABDOMEN: _ct_abdomen,
}
"""The files of each sample study, made one by one."""
