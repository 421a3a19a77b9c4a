"""What the samples have in common: who, when, which study, and the DICOM attributes that say so."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

if TYPE_CHECKING:
    import numpy as np

_NAMESPACE = uuid.UUID("6d9f4d0c-52c5-4c9b-9f6a-3f4f6a3c7b11")
_BITS = 16


@dataclass(frozen=True)
class Sample:
    """A sample study.

    Attributes:
        clinic: the clinic whose inbox it goes to.
        folder: its folder there, and the seed of all its UIDs.
        patient_name: in DICOM's form.
        patient_id: within the clinic.
        birth_date: YYYYMMDD.
        sex: F, M or O.
        date: study date, YYYYMMDD.
        time: study time, HHMMSS.
        description: study description.
        accession: accession number.
        referring: referring physician in DICOM's form.
        modalities: of its series, in their order.
        instances: how many files it has.
    """

    clinic: str
    folder: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    date: str
    time: str
    description: str
    accession: str
    referring: str
    modalities: tuple[str, ...]
    instances: int

    @property
    def study_uid(self) -> str:
        """Its StudyInstanceUID, the same wherever the samples are made."""
        return self.uid("study")

    def uid(self, *names: object) -> str:
        """A UID below this study; the same names always give the same one (PS3.5 annex B.2)."""
        name = "/".join(str(each) for each in (self.folder, *names))
        return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


@dataclass(frozen=True)
class Series:
    """A series of a sample study."""

    sample: Sample
    number: int
    modality: str
    description: str
    device: str
    body_part: str = ""
    laterality: str | None = None

    @property
    def uid(self) -> str:
        """Its SeriesInstanceUID."""
        return self.sample.uid("series", self.number)

    def sop_uid(self, instance: int) -> str:
        """The SOPInstanceUID of an instance."""
        return self.sample.uid("series", self.number, "instance", instance)


def new_instance(
    series: Series, sop_class: str, instance: int, transfer_syntax: str = ExplicitVRLittleEndian
) -> FileDataset:
    """A file with the patient, study, series, equipment and SOP common modules filled in (PS3.3 annex C)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(series.sop_uid(instance))
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationVersionName = "CLINICPACS_DEMO"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = series.sop_uid(instance)
    dataset.InstanceNumber = instance
    _describe_study(dataset, series.sample)
    _describe_series(dataset, series)
    return dataset


def _describe_study(dataset: Dataset, sample: Sample) -> None:
    dataset.StudyInstanceUID = sample.study_uid
    dataset.StudyID = sample.accession[-4:]
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = sample.date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = sample.time
    dataset.StudyDescription = sample.description
    dataset.AccessionNumber = sample.accession
    dataset.ReferringPhysicianName = sample.referring
    dataset.InstitutionName = "Sample Institution"
    dataset.PatientName = sample.patient_name
    dataset.PatientID = sample.patient_id
    dataset.PatientBirthDate = sample.birth_date
    dataset.PatientSex = sample.sex
    dataset.PatientComments = "Sample data; no such person exists"


def _describe_series(dataset: Dataset, series: Series) -> None:
    dataset.SeriesInstanceUID = series.uid
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.description
    dataset.Modality = series.modality
    dataset.Manufacturer = "clinicpacs"
    dataset.ManufacturerModelName = series.device
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "demo"
    if series.body_part:
        dataset.BodyPartExamined = series.body_part
    if series.laterality is not None:
        dataset.Laterality = series.laterality


def set_grey_pixels(
    dataset: Dataset, pixels: np.ndarray, *, bits_stored: int = _BITS, photometric: str = "MONOCHROME2"
) -> None:
    """The image pixel module for one 16 bit frame (PS3.3 section C.7.6.3).

    Args:
        dataset: the file to be.
        pixels: shape (rows, columns), int16 or uint16.
        bits_stored: how many of the 16 bits are used.
        photometric: MONOCHROME1 (high is dark) or MONOCHROME2.
    """
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = _BITS
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset["PixelData"].VR = "OW"


@dataclass(frozen=True)
class Plane:
    """Where an image lies in the patient (PS3.3 section C.7.6.2), in mm."""

    orientation: tuple[float, float, float, float, float, float]
    position: tuple[float, float, float]
    spacing: tuple[float, float]
    thickness: float

    def describe(self, dataset: Dataset, series: Series, location: float) -> None:
        """Fill in the image plane and frame of reference modules."""
        dataset.FrameOfReferenceUID = series.sample.uid("frame of reference")
        dataset.PositionReferenceIndicator = ""
        dataset.ImageOrientationPatient = list(self.orientation)
        dataset.ImagePositionPatient = [round(each, 3) for each in self.position]
        dataset.PixelSpacing = list(self.spacing)
        dataset.SliceThickness = self.thickness
        dataset.SpacingBetweenSlices = self.thickness
        dataset.SliceLocation = round(location, 3)
