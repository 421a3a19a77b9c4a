"""Small real studies, made on the spot: the same seed gives the same bytes.

`make_instance` gives a data set ready to be saved, `instance_bytes` the Part 10 file, and `write_study` the
files of a study in a folder. Images are 32 x 32 unless told otherwise (the least that OpenJPEG takes), so
that thousands of them are cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

NATIVE_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
ENCAPSULATED_SYNTAXES = (RLELossless, JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless)

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",  # multi-frame
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "PDF": "1.2.840.10008.5.1.4.1.1.104.1",
}
MODALITIES = tuple(SOP_CLASSES)
IMAGE_MODALITIES = ("CT", "MR", "CR", "US")

_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


@dataclass(frozen=True)
class SamplePatient:
    """A fictional patient, with the SpecificCharacterSet that the name needs."""

    id: str
    name: str
    character_set: str | list[str] = "ISO_IR 192"
    sex: str = "F"
    birth_date: str = "19700101"


PATIENTS = {
    "latin": SamplePatient("SAMPLE-1", "Sample^Aurora", "ISO_IR 100"),
    "cyrillic": SamplePatient("SAMPLE-2", "Образцова^Аврора", "ISO_IR 144"),
    "japanese": SamplePatient("SAMPLE-3", "Mihon^Aki=見本^秋=みほん^あき", ["", "ISO 2022 IR 87"]),
    "arabic": SamplePatient("SAMPLE-4", "عينة^شفق", "ISO_IR 127"),
    "kazakh": SamplePatient("SAMPLE-5", "Үлгі^Әсем", "ISO_IR 192"),
}


def sample_uid(*sources: object) -> str:
    """A UID that depends on nothing but `sources`."""
    return str(generate_uid(entropy_srcs=["clinicpacs sample", *map(str, sources)]))


def make_instance(
    modality: str = "CT",
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
    patient: SamplePatient | str = "latin",
    seed: object = 0,
    study_uid: str | None = None,
    series_uid: str | None = None,
    sop_instance_uid: str | None = None,
    instance_number: int = 1,
    size: int = 32,
    frames: int = 3,
    institution: str | None = None,
    study_date: str = "20240102",
    description: str = "Sample study",
) -> FileDataset:
    """One instance of a modality of `MODALITIES`, with all the attributes that an archive indexes.

    Args:
        modality: "PDF" is an encapsulated PDF, whose Modality is DOC.
        transfer_syntax: the encapsulated ones are for images only; JPEG baseline makes the image 8 bit.
        patient: one of `PATIENTS`, by key, or another.
        seed: with the instance number it decides all UIDs that are not given.
        size: rows and columns of an image; 512 for a CT file of half a megabyte.
        frames: of a US.
    """
    someone = PATIENTS[patient] if isinstance(patient, str) else patient
    study = study_uid or sample_uid(seed, "study")
    series = series_uid or sample_uid(seed, "series", modality)
    instance = sop_instance_uid or sample_uid(seed, "instance", modality, series, instance_number)
    ds = FileDataset(
        "",
        Dataset(),
        preamble=bytes(128),
        file_meta=FileMetaDataset(),
        is_implicit_VR=transfer_syntax == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax != ExplicitVRBigEndian,
    )
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    ds.SpecificCharacterSet = someone.character_set
    ds.SOPClassUID, ds.SOPInstanceUID = SOP_CLASSES[modality], instance
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = study_date
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101500"
    ds.AccessionNumber = f"A{seed}"[:16]
    ds.Modality = "DOC" if modality == "PDF" else modality
    ds.Manufacturer = "Sample"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = description, f"Sample {modality}"
    ds.PatientName, ds.PatientID = someone.name, someone.id
    ds.PatientBirthDate, ds.PatientSex = someone.birth_date, someone.sex
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, instance_number
    if institution is not None:
        ds.InstitutionName = institution
    _add_content(ds, modality, transfer_syntax, size=size, frames=frames)
    return ds


def _add_content(ds: FileDataset, modality: str, syntax: str, *, size: int, frames: int) -> None:
    if modality in IMAGE_MODALITIES:
        _add_image(ds, modality, syntax, size=size, frames=frames if modality == "US" else 1)
    elif syntax in ENCAPSULATED_SYNTAXES:
        raise ValueError(f"{modality} has no pixel data to encapsulate")
    elif modality == "PDF":
        ds.BurnedInAnnotation, ds.ConversionType = "YES", "WSD"
        ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument = "Sample report", "application/pdf"
        ds.EncapsulatedDocument, ds.EncapsulatedDocumentLength = _PDF, len(_PDF)
    else:
        _add_report(ds)


def _add_image(ds: FileDataset, modality: str, syntax: str, *, size: int, frames: int) -> None:
    is_8bit = modality == "US" or syntax == JPEGBaseline8Bit
    pixels = _pixels(int(ds.InstanceNumber), size, frames, is_8bit=is_8bit)
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 if is_8bit else 16
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    if modality == "US":
        ds.NumberOfFrames, ds.FrameTime = frames, "40"
        ds.FrameIncrementPointer = 0x00181063
    elif modality in {"CT", "MR"}:
        ds.ImagePositionPatient = [0, 0, int(ds.InstanceNumber)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
        ds.FrameOfReferenceUID = sample_uid(ds.StudyInstanceUID, "frame of reference")
    if modality == "CT":
        ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.WindowCenter, ds.WindowWidth = (128, 256) if is_8bit else (1000, 2000)
    _set_pixel_data(ds, pixels, syntax)


def _pixels(instance_number: int, size: int, frames: int, *, is_8bit: bool) -> npt.NDArray[np.uint16]:
    """A disc on a ramp; what the instance number and the frame change is where it is."""
    y, x = np.mgrid[0:size, 0:size]
    made = []
    for frame in range(frames):
        shift = (instance_number + frame) % max(size // 2, 1)
        disc = (x - shift - size // 4) ** 2 + (y - size // 2) ** 2 < (size / 4) ** 2
        made.append((x + y) * (100 // size + 1) + disc * (100 if is_8bit else 1500) + instance_number % 50)
    return np.stack(made).astype(np.uint8 if is_8bit else np.uint16)


def _set_pixel_data(ds: FileDataset, pixels: npt.NDArray[np.uint16], syntax: str) -> None:
    if syntax == JPEGBaseline8Bit:
        ds.PixelData = encapsulate([_jpeg(frame) for frame in pixels])
        ds["PixelData"].VR = "OB"
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    elif syntax in ENCAPSULATED_SYNTAXES:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelData = pixels.tobytes()
        ds["PixelData"].VR = "OW"
        ds.compress(syntax, generate_instance_uid=False)
    else:
        if syntax == ExplicitVRBigEndian:
            pixels = pixels.astype(pixels.dtype.newbyteorder(">"))
        ds.PixelData = pixels.tobytes()
        ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"


def _jpeg(frame: npt.NDArray[np.uint16]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _add_report(ds: FileDataset) -> None:
    """A root container with one text, as a basic text SR has it (PS3.3 section A.35.1)."""
    finding = Dataset()
    finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
    finding.ConceptNameCodeSequence, finding.TextValue = (
        [_code("121071", "DCM", "Finding")],
        "Nothing but a sample.",
    )
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence, ds.ContentSequence = [_code("18748-4", "LN", "Report")], [finding]
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = []


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def to_bytes(ds: FileDataset) -> bytes:
    """The data set as a Part 10 file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def instance_bytes(modality: str = "CT", **options: object) -> bytes:
    """`make_instance` as a Part 10 file."""
    return to_bytes(make_instance(modality, **options))  # type: ignore[arg-type]


def write_study(folder: Path, modality: str = "CT", *, instances: int = 3, **options: object) -> list[Path]:
    """Write instances 1 to `instances` of one series as ``IM0001.dcm`` ... into `folder`, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, instances + 1):
        path = folder / f"IM{number:04d}.dcm"
        path.write_bytes(instance_bytes(modality, instance_number=number, **options))
        paths.append(path)
    return paths
