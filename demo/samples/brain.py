"""MR series of the ICBM 152 brain (see NOTICE.md)."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import MRImageStorage

from demo.samples.study import Plane, new_instance, set_grey_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import FileDataset

    from demo.samples.study import Series

    Volume = np.ndarray[Any, Any]

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
_STORED_PER_GREY = 8
_BITS_STORED = 12
_SEED = 152
_GRAZED = 15  # mm at the front and at the back


def load_brain() -> tuple[Volume, tuple[float, float, float]]:
    """The volume and where it lies.

    Returns:
        uint8 voxels of 1 mm, indexed (z, y, x) towards head, back and left of the patient, and the position
        of the first voxel in mm in the patient coordinate system (x to the left, y to the back, z up).
    """
    with files("demo.samples").joinpath("icbm152.npz").open("rb") as file, np.load(file) as stored:
        voxels, (right, front, foot) = stored["voxels"], stored["origin_mm"]
    # Stored as NIfTI has it, x to the right and y to the front: turn both, and their origin.
    _, rows, columns = voxels.shape
    origin = (-float(right) - (columns - 1), -float(front) - (rows - 1), float(foot))
    return voxels[:, ::-1, ::-1], origin


def axial_t1(series: Series) -> Iterator[FileDataset]:
    """The T1 brain in axial slices of 1 mm."""
    voxels, origin = load_brain()
    stored = _with_noise(voxels.astype(np.float32))
    for index, pixels in enumerate(stored):
        plane = Plane(AXIAL, (origin[0], origin[1], origin[2] + index), (1.0, 1.0), 1.0)
        dataset = _slice(series, index, pixels, plane, origin[2] + index)
        _describe_sequence(dataset, echo_time=2.9, repetition_time=2300.0, weighting="T1", gradient=True)
        yield dataset


def coronal_t2(series: Series, thickness: int = 3) -> Iterator[FileDataset]:
    """The same anatomy with the contrast of a T2 image, in thicker coronal slices."""
    voxels, origin = load_brain()
    stored = _with_noise(_as_t2(voxels))
    top = origin[2] + voxels.shape[0] - 1
    # A viewer opens the first slice: it is not to be one that only grazes the brain.
    starts = range(_GRAZED, voxels.shape[1] - _GRAZED, thickness)
    for index, start in enumerate(starts):
        slab = stored[:, start : start + thickness].mean(axis=1)
        middle = origin[1] + start + (thickness - 1) / 2
        plane = Plane(CORONAL, (origin[0], middle, top), (1.0, 1.0), float(thickness))
        pixels = np.ascontiguousarray(slab[::-1]).astype(np.uint16)
        dataset = _slice(series, index, pixels, plane, middle)
        _describe_sequence(dataset, echo_time=100.0, repetition_time=4200.0, weighting="T2", gradient=False)
        yield dataset


def _as_t2(voxels: Volume) -> Volume:
    """Fluid bright, grey over white matter: T1 turned over inside of the brain."""
    grey = voxels.astype(np.float32)
    turned = np.clip(300.0 - 1.15 * grey, 20.0, 245.0)
    edge = np.clip(grey / 40.0, 0.0, 1.0)
    contrast: Volume = turned * edge
    return contrast


def _with_noise(grey: Volume) -> Volume:
    noise = np.random.default_rng(_SEED).normal(0, 2.0, (2, *grey.shape)).astype(np.float32)
    # Magnitude images have Rician noise: also where there is nothing.
    magnitude = np.hypot(grey + noise[0], noise[1])
    stored: Volume = np.clip(magnitude * _STORED_PER_GREY, 0, (1 << _BITS_STORED) - 1).astype(np.uint16)
    return stored


def _slice(series: Series, index: int, pixels: Volume, plane: Plane, location: float) -> FileDataset:
    dataset = new_instance(series, MRImageStorage, index + 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.AcquisitionNumber = 1
    dataset.PatientPosition = "HFS"
    plane.describe(dataset, series, location)
    set_grey_pixels(dataset, pixels, bits_stored=_BITS_STORED)
    dataset.WindowCenter, dataset.WindowWidth = 1000, 2000
    return dataset


def _describe_sequence(
    dataset: FileDataset, *, echo_time: float, repetition_time: float, weighting: str, gradient: bool
) -> None:
    dataset.ScanningSequence = "GR" if gradient else "SE"
    dataset.SequenceVariant = "MP" if gradient else "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D" if gradient else "2D"
    dataset.SequenceName = f"{weighting.lower()}_demo"
    dataset.ProtocolName = f"{weighting} brain"
    dataset.RepetitionTime = repetition_time
    dataset.EchoTime = echo_time
    dataset.InversionTime = 900.0 if gradient else None
    dataset.EchoTrainLength = 1 if gradient else 15
    dataset.FlipAngle = 9 if gradient else 150
    dataset.MagneticFieldStrength = 3.0
