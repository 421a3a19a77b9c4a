"""A CT series of a phantom of chest and upper abdomen, in Hounsfield units and mm."""

# ruff: noqa: PLR2004 - the measures of a phantom are its definition

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import CTImageStorage

from demo.samples.shapes import Canvas, Point, Volume
from demo.samples.study import Plane, new_instance, set_grey_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import FileDataset

    from demo.samples.study import Series

AIR, LUNG, FAT, MUSCLE, FLUID = -1000.0, -840.0, -100.0, 55.0, 8.0
BLOOD, AORTA, HEART, MYOCARDIUM = 160.0, 230.0, 190.0, 95.0
LIVER, SPLEEN, CORTEX, MEDULLA = 110.0, 125.0, 190.0, 120.0
MARROW, BONE, DISC = 210.0, 750.0, 85.0
NODULE_CENTRE: Point = (-58.0, -8.0, 212.0)
NODULE_RADIUS = 9.0
_CYST_CENTRE: Point = (-72.0, -18.0, 62.0)
_BODY = (168.0, 112.0)
_RIBS = (142.0, 92.0)
_RESCALE_INTERCEPT = -1024
_SEED = 320
_FIELD_OF_VIEW = 384.0
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def paint_body(x: Volume, y: Volume, z: Volume, *, lesions: bool) -> Canvas:
    """The phantom.

    Args:
        x: mm to the left of the patient, 0 in the middle.
        y: mm to the back, 0 in the middle.
        z: mm to the head; 0 is at the kidneys, 300 at the shoulders.
        lesions: with a nodule in the right lung and a cyst in the liver.
    """
    canvas = Canvas.of(x.astype(np.float32), y.astype(np.float32), z.astype(np.float32), AIR)
    _trunk(canvas)
    lungs = _lungs(canvas)
    _abdomen(canvas)
    _vessels(canvas, lungs)
    _mediastinum(canvas)
    _spine(canvas)
    _ribs(canvas)
    if lesions:
        _lesions(canvas)
    return canvas


def ct_series(
    series: Series, *, columns: int, slices: int, bottom: float, thickness: float, lesions: bool
) -> Iterator[FileDataset]:
    """The phantom as a CT series.

    Args:
        series: what it belongs to.
        columns: of the square slices, which are 384 mm wide.
        slices: their number.
        bottom: z of the lowest one, as in ``paint_body``.
        thickness: of a slice in mm.
        lesions: as in ``paint_body``.
    """
    spacing = _FIELD_OF_VIEW / columns
    across = (np.arange(columns) - (columns - 1) / 2) * spacing
    canvas = paint_body(across, across, bottom + np.arange(slices) * thickness, lesions=lesions)
    noise = np.random.default_rng(_SEED)
    corner = float(canvas.x[0])
    for index, z in enumerate(canvas.z):
        hounsfield = _scanned(canvas.values[index], noise)
        dataset = new_instance(series, CTImageStorage, index + 1)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.AcquisitionNumber = 1
        dataset.PatientPosition = "HFS"
        plane = Plane(AXIAL, (corner, corner, float(z)), (spacing, spacing), thickness)
        plane.describe(dataset, series, float(z))
        set_grey_pixels(dataset, (hounsfield - _RESCALE_INTERCEPT).astype(np.uint16), bits_stored=12)
        _describe_scan(dataset)
        yield dataset


def _describe_scan(dataset: FileDataset) -> None:
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _RESCALE_INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = [50, -550], [400, 1500]
    dataset.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 220
    dataset.ExposureTime = 500
    dataset.ConvolutionKernel = "STANDARD"
    dataset.GantryDetectorTilt = 0
    dataset.ScanOptions = "HELICAL"
    dataset.ContrastBolusAgent = "SAMPLE CONTRAST"
    dataset.ProtocolName = "Chest and upper abdomen"


def _scanned(values: Volume, noise: np.random.Generator) -> Volume:
    """Soften the edges as a reconstruction kernel does and add correlated noise; whole Hounsfield units."""
    grain: Volume = np.asarray(noise.normal(0, 26, values.shape), np.float32)
    scanned: Volume = np.clip(np.rint(_blur(values) + _blur(grain)), _RESCALE_INTERCEPT, 3071)
    return scanned


def _blur(values: Volume) -> Volume:
    for axis in (0, 1):
        values = 0.25 * np.roll(values, 1, axis) + 0.5 * values + 0.25 * np.roll(values, -1, axis)
    return values


def _width(z: Volume) -> Volume:
    """How wide the body is at a height, as a share of its full width: with a waist and shoulders."""
    share: Volume = 1.0 - 0.05 * np.exp(-(((z - 90) / 45) ** 2)) - 0.22 / (1 + np.exp(-(z - 290) / 9))
    return share


def _trunk(canvas: Canvas) -> None:
    width = _width(canvas.z)
    for index, share in enumerate(width):
        x, y = canvas.x[None, :] / share, canvas.y[:, None] / (0.55 + 0.45 * share)
        # A superellipse: chests are flatter than ellipses.
        radius = (abs(x / _BODY[0]) ** 2.4 + abs(y / _BODY[1]) ** 2.4) ** (1 / 2.4)
        layer = canvas.values[index]
        layer[radius <= 1] = FAT
        layer[radius <= 0.93] = MUSCLE
        fold = np.arctan2(y, x)
        layer[(radius > 0.895) & (radius <= 0.905) & (abs(np.sin(fold * 2)) > 0.25)] = FAT
    # The table under the patient.
    sag = canvas.y[None, :, None] + 0.0012 * canvas.x[None, None, :] ** 2
    shell = (abs(sag - 150) < 3.0) & (abs(canvas.x[None, None, :]) < 150)
    canvas.values[np.broadcast_to(shell, canvas.values.shape)] = -350


def _lungs(canvas: Canvas) -> Volume:
    before = canvas.values.copy()
    for side, width in ((-1, 58.0), (1, 54.0)):
        canvas.ellipsoid((side * 68.0, -2.0, 190.0), (width, 80.0, 112.0), LUNG)
        canvas.ellipsoid((side * 60.0, 8.0, 240.0), (44.0, 58.0, 62.0), LUNG)
    lungs: Volume = (canvas.values == LUNG) & (before > AIR)
    canvas.values[:] = np.where(lungs, LUNG, before)
    # The diaphragm: what lies under its domes is abdomen.
    for side, top in ((-1, 132.0), (1, 120.0)):
        canvas.ellipsoid((side * 62.0, 4.0, top - 75.0), (80.0, 98.0, 75.0), MUSCLE, where=lungs)
    left: Volume = canvas.values == LUNG
    return left


def _abdomen(canvas: Canvas) -> None:
    inside = canvas.values == MUSCLE
    canvas.ellipsoid((0.0, 0.0, 50.0), (136.0, 86.0, 92.0), FAT, where=inside)
    canvas.ellipsoid((0.0, 0.0, -40.0), (134.0, 84.0, 110.0), FAT, where=inside)
    for x, y in ((-46.0, 66.0), (46.0, 66.0)):
        canvas.cylinder((x, y, -20.0), (30.0, 17.0), MUSCLE, 118.0)
    canvas.ellipsoid((-66.0, -6.0, 68.0), (70.0, 76.0, 60.0), LIVER)
    canvas.ellipsoid((-8.0, -38.0, 84.0), (48.0, 34.0, 30.0), LIVER)
    canvas.ellipsoid((-44.0, -50.0, 34.0), (15.0, 17.0, 22.0), FLUID)
    canvas.ellipsoid((94.0, 34.0, 82.0), (28.0, 40.0, 42.0), SPLEEN)
    canvas.ellipsoid((52.0, -26.0, 78.0), (42.0, 38.0, 34.0), 38.0)
    canvas.ellipsoid((52.0, -40.0, 84.0), (30.0, 18.0, 22.0), -950.0)
    canvas.ellipsoid((10.0, -8.0, 34.0), (58.0, 13.0, 11.0), 95.0)
    for side in (-1, 1):
        canvas.ellipsoid((side * 62.0, 40.0, 8.0), (26.0, 23.0, 52.0), CORTEX)
        canvas.ellipsoid((side * 58.0, 39.0, 8.0), (16.0, 13.0, 38.0), MEDULLA)
        canvas.ellipsoid((side * 46.0, 37.0, 8.0), (14.0, 9.0, 18.0), -60.0)
    _bowel(canvas)


def _bowel(canvas: Canvas) -> None:
    turns = np.random.default_rng(_SEED + 1)
    for _ in range(34):
        x, y, z = turns.uniform((-60, -66, -60), (95, -8, 24))
        radius = float(turns.uniform(9, 14))
        canvas.ellipsoid((x, y, z), (radius * 1.5, radius, radius), 75.0)
        canvas.ellipsoid(
            (x, y, z), (radius * 1.3, radius - 2.5, radius - 2.5), float(turns.choice([-900, 20, 30]))
        )


def _mediastinum(canvas: Canvas) -> None:
    canvas.ellipsoid((6.0, -14.0, 226.0), (34.0, 62.0, 74.0), FAT, where=canvas.values != AIR)
    canvas.ellipsoid((22.0, -24.0, 166.0), (60.0, 50.0, 46.0), FAT)
    canvas.ellipsoid((24.0, -24.0, 166.0), (55.0, 45.0, 42.0), MYOCARDIUM)
    canvas.ellipsoid((42.0, -20.0, 162.0), (26.0, 24.0, 27.0), HEART + 30)
    canvas.ellipsoid((2.0, -36.0, 168.0), (24.0, 24.0, 27.0), HEART)
    canvas.ellipsoid((4.0, 4.0, 186.0), (34.0, 17.0, 17.0), HEART + 10)
    canvas.tube((-2.0, -22.0, 190.0), (-6.0, -26.0, 240.0), 15.0, AORTA, where=None)
    canvas.tube((-6.0, -26.0, 242.0), (18.0, 34.0, 248.0), 13.0, AORTA, where=None)
    canvas.tube((18.0, 36.0, 248.0), (14.0, 40.0, 110.0), 11.5, AORTA, where=None)
    canvas.tube((14.0, 40.0, 110.0), (4.0, 30.0, -60.0), 9.5, AORTA, where=None)
    canvas.tube((-24.0, -20.0, 300.0), (-22.0, -12.0, 190.0), 9.0, BLOOD, where=None)
    canvas.tube((-14.0, 12.0, 130.0), (-20.0, 26.0, -60.0), 10.5, BLOOD, where=None)
    canvas.tube((-52.0, -2.0, 214.0), (40.0, 2.0, 214.0), 10.5, AORTA - 20, where=None)
    canvas.tube((12.0, -34.0, 190.0), (10.0, -4.0, 214.0), 12.0, AORTA - 20, where=None)
    _airways(canvas)
    canvas.tube((4.0, 34.0, 320.0), (8.0, 34.0, 130.0), 5.5, 45.0, where=None)


def _airways(canvas: Canvas) -> None:
    for radius, value in ((10.0, 60.0), (8.2, AIR)):
        canvas.tube((0.0, 18.0, 320.0), (0.0, 22.0, 236.0), radius, value, where=None)
        for side in (-1, 1):
            canvas.tube((0.0, 22.0, 236.0), (side * 34.0, 20.0, 208.0), radius - 2.0, value, where=None)
            canvas.tube(
                (side * 34.0, 20.0, 208.0), (side * 58.0, 28.0, 178.0), radius - 4.0, value, where=None
            )


def _vessels(canvas: Canvas, lungs: Volume) -> None:
    """Vessels that leave the hilum and split, thinner every time."""
    chance = np.random.default_rng(_SEED + 2)
    for side in (-1, 1):
        for _ in range(26):
            start = np.array([side * 36.0, 4.0, 206.0])
            _branch(canvas, lungs, start, _direction(chance, side), radius=4.2, chance=chance)


def _direction(chance: np.random.Generator, side: int) -> Volume:
    way = chance.normal(0, 1, 3) * np.array([0.5, 0.8, 1.0])
    way[0] = side * (0.35 + abs(way[0]))
    unit: Volume = way / np.linalg.norm(way)
    return unit


def _branch(
    canvas: Canvas, lungs: Volume, start: Volume, way: Volume, *, radius: float, chance: np.random.Generator
) -> None:
    if radius < 0.8:
        return
    end = start + way * chance.uniform(14, 26)
    canvas.tube(_point(start), _point(end), radius, 110.0, where=lungs)
    for _ in range(2):
        turned = way + chance.normal(0, 0.38, 3)
        _branch(canvas, lungs, end, turned / np.linalg.norm(turned), radius=radius * 0.68, chance=chance)


def _point(vector: Volume) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])


def _spine(canvas: Canvas) -> None:
    for number in range(-3, 14):
        z = number * 27.0
        canvas.cylinder((0.0, 56.0, z), (19.0, 16.0), BONE, 11.5)
        canvas.cylinder((0.0, 56.0, z), (17.0, 14.0), MARROW, 9.8)
        canvas.cylinder((0.0, 56.0, z + 13.5), (18.0, 15.0), DISC, 2.0)
        for side in (-1, 1):
            canvas.tube((side * 12.0, 74.0, z), (side * 38.0, 82.0, z + 2), 4.8, BONE, where=None)
            canvas.tube((side * 13.0, 68.0, z), (side * 7.0, 88.0, z - 2), 4.2, BONE, where=None)
        canvas.tube((0.0, 88.0, z), (0.0, 102.0, z - 16), 4.0, BONE, where=None)
    canvas.cylinder((0.0, 79.0, 130.0), (9.5, 8.0), 25.0, 220.0)
    canvas.cylinder((0.0, 79.0, 130.0), (5.5, 4.5), 40.0, 220.0)


def _ribs(canvas: Canvas) -> None:
    x, y = canvas.x[None, :], canvas.y[:, None]
    for index, (z, share) in enumerate(zip(canvas.z, _width(canvas.z), strict=True)):
        across, deep = x / (_RIBS[0] * share), y / (_RIBS[1] * (0.55 + 0.45 * share))
        distance = (np.hypot(across, deep) - 1.0) * _RIBS[1]
        # Ribs come from the spine and sink towards the front.
        height = z + 52.0 * np.clip((1.0 - deep) / 2.0, 0, 1) ** 0.8
        off = np.mod(height - 12.0, 25.0) - 12.5
        present = (height > 95) & (height < 345) & ~((abs(x) < 26) & (y < 0)) & (abs(across) > 0.13)
        bent = np.hypot(distance / 3.6, off / 5.5)
        layer = canvas.values[index]
        cartilage = deep < -0.55
        layer[present & (bent < 1)] = BONE
        layer[present & (bent < 0.62)] = MARROW + 40
        layer[present & (bent < 1) & cartilage] = 120
    canvas.ellipsoid((0.0, -88.0, 222.0), (22.0, 7.0, 66.0), BONE)
    canvas.ellipsoid((0.0, -88.0, 222.0), (19.0, 4.6, 62.0), MARROW)
    for side in (-1, 1):
        canvas.tube((side * 60.0, 84.0, 180.0), (side * 92.0, 80.0, 292.0), 4.0, BONE, where=None)
        canvas.tube((side * 20.0, -78.0, 286.0), (side * 120.0, -30.0, 304.0), 6.0, BONE, where=None)


def _lesions(canvas: Canvas) -> None:
    canvas.ellipsoid(NODULE_CENTRE, (NODULE_RADIUS, NODULE_RADIUS, NODULE_RADIUS), 45.0)
    spikes = np.random.default_rng(_SEED + 3)
    centre = np.array(NODULE_CENTRE)
    for _ in range(14):
        way = spikes.normal(0, 1, 3)
        tip = centre + way / np.linalg.norm(way) * (NODULE_RADIUS + spikes.uniform(3, 7))
        canvas.tube(NODULE_CENTRE, _point(tip), 1.3, 10.0, where=None)
    canvas.ellipsoid(_CYST_CENTRE, (12.0, 12.0, 12.0), FLUID)
