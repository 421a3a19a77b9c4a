"""A colour ultrasound cine: a beating chamber with Doppler flow, JPEG baseline."""

# ruff: noqa: PLR2004 - the measures of a drawing are its definition

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from demo.samples.study import new_instance

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from demo.samples.study import Series

    Picture = np.ndarray[Any, Any]

ROWS, COLUMNS, FRAMES = 480, 640, 32
_FRAME_TIME = 40.0
_QUALITY = 88
_SEED = 41
_APEX = (COLUMNS / 2, 24.0)
_DEPTH = 430.0
_HALF_ANGLE = 0.72
_MM_PER_PIXEL = 150.0 / _DEPTH


def cine(series: Series) -> FileDataset:
    """The multi-frame image."""
    frames = [_jpeg(frame) for frame in _frames()]
    dataset = new_instance(series, UltrasoundMultiFrameImageStorage, 1, JPEGBaseline8Bit)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "CARDIAC", "0001"]
    dataset.FrameTime = _FRAME_TIME
    dataset.FrameIncrementPointer = 0x00181063
    dataset.CineRate = dataset.RecommendedDisplayFrameRate = round(1000 / _FRAME_TIME)
    dataset.HeartRate = round(60_000 / (_FRAME_TIME * FRAMES / 2))
    dataset.SequenceOfUltrasoundRegions = [_region()]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = ROWS, COLUMNS, FRAMES
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.UltrasoundColorDataPresent = 1
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.LossyImageCompressionRatio = round(ROWS * COLUMNS * 3 * FRAMES / sum(map(len, frames)), 1)
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    return dataset


def _region() -> Dataset:
    """Where the sector is, and its scale (PS3.3 section C.8.5.5)."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 2, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = COLUMNS - 20, ROWS - 20
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = _MM_PER_PIXEL / 10
    return region


def _jpeg(frame: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=_QUALITY, subsampling="4:2:2")
    return file.getvalue()


def _frames() -> list[Picture]:
    x, y = np.meshgrid(np.arange(COLUMNS) - _APEX[0], np.arange(ROWS) - _APEX[1])
    scan = _Scan(x.astype(np.float32), y.astype(np.float32))
    return [_frame(2 * np.pi * 2 * number / FRAMES, scan) for number in range(FRAMES)]


class _Scan:
    """The sector: coordinates in pixels from the probe, and the grain of the tissue."""

    def __init__(self, x: Picture, y: Picture) -> None:
        self.x, self.y = x, y
        self.depth, angle = np.hypot(x, y), np.arctan2(x, y)
        self.inside = (self.depth > 26) & (self.depth < _DEPTH) & (abs(angle) < _HALF_ANGLE)
        self._speckle = [_speckle(seed, self.depth, angle) for seed in range(3)]

    def grain(self, phase: float) -> Picture:
        """Grain that changes over the beat and comes back with it; mean 1."""
        still, one, other = self._speckle
        share = 0.5 + 0.5 * np.cos(phase)
        mixed: Picture = 0.55 * still + 0.45 * (one * share + other * (1 - share))
        return mixed


def _speckle(seed: int, depth: Picture, angle: Picture) -> Picture:
    """Grain that is short along the beam and grows wide with depth; mean 1."""
    chance = np.random.default_rng(_SEED + seed)
    echoes = chance.normal(0, 1, (2, 256, 160))
    for axis, rounds in ((1, 2), (2, 2)):
        for _ in range(rounds):
            echoes = 0.25 * np.roll(echoes, 1, axis) + 0.5 * echoes + 0.25 * np.roll(echoes, -1, axis)
    field = np.hypot(*echoes)
    row = np.clip(depth / _DEPTH * 255, 0, 255).astype(int)
    column = np.clip((angle / _HALF_ANGLE + 1) / 2 * 159, 0, 159).astype(int)
    spread: Picture = (field / field.mean())[row, column].astype(np.float32)
    return spread


def _frame(phase: float, scan: _Scan) -> Picture:
    x, y = scan.x, scan.y
    squeeze = 1 - 0.16 * (0.5 - 0.5 * np.cos(phase))
    grey = np.full_like(x, 42.0)
    ventricle = _oval(x + 12, y - 190, 62 * squeeze, 112 * (0.6 + 0.4 * squeeze))
    atrium = _oval(x + 8, y - 350, 58 * (2 - squeeze), 46 * (2 - squeeze))
    right = _oval(x - 96, y - 205, 36 * squeeze, 84)
    for chamber, wall in ((ventricle, 1.30), (right, 1.24), (atrium, 1.12)):
        grey = np.where(chamber < wall, 118.0, grey)
    for chamber in (ventricle, right, atrium):
        grey = np.where(chamber < 1, 9.0, grey)
    for side in (-1, 1):
        opening = 0.25 + 0.5 * max(0.0, np.sin(phase))
        leaflet = abs(x + 10 - side * (40 - 30 * (1 - opening) * np.clip((y - 262) / 40 + 1, 0, 1)) + 0.0)
        grey = np.where((leaflet < 3.2) & (abs(y - 286) < 22), 190.0, grey)
    grey += 85 * np.exp(-(((y - 424 + 0.0009 * x**2) / 7) ** 2))
    mixed = scan.grain(phase)
    grey = np.clip(grey * mixed**1.3 * (1.15 - 0.5 * scan.depth / _DEPTH), 0, 255) * scan.inside
    picture = np.repeat(grey[..., None], 3, axis=2)
    _colour_flow(picture, phase, scan, np.minimum(ventricle, atrium) < 0.94)
    return _annotate(picture.astype(np.uint8))


def _oval(x: Picture, y: Picture, across: float, down: float) -> Picture:
    return np.sqrt((x / across) ** 2 + (y / down) ** 2)


def _colour_flow(picture: Picture, phase: float, scan: _Scan, blood: Picture) -> None:
    """Red towards the probe, blue away from it (a jet through the valve and its eddies)."""
    x, y = scan.x, scan.y
    jet = np.exp(-(((x + 10) / 26) ** 2)) * np.exp(-(((y - 262) / 84) ** 2))
    eddy = 0.55 * np.exp(-(((x + 44) / 18) ** 2 + ((y - 205) / 48) ** 2))
    velocity = np.sin(phase) * (jet - eddy) * (0.75 + 0.25 * scan.grain(phase))
    seen = blood & (abs(velocity) > 0.12)
    strength = np.clip(abs(velocity), 0, 1)[..., None]
    towards = np.array([255.0, 0, 0]) * (0.45 + 0.55 * strength) + np.array([0, 220.0, 0]) * strength**2
    away = np.array([0, 0, 255.0]) * (0.45 + 0.55 * strength) + np.array([0, 210.0, 0]) * strength**2
    colour = np.where((velocity > 0)[..., None], towards, away)
    picture[seen] = np.clip(colour, 0, 255)[seen]


def _annotate(frame: Picture) -> Picture:
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    draw.text((14, 12), "SAMPLE", fill=(200, 200, 200))
    draw.text((14, ROWS - 24), "not a patient", fill=(120, 120, 120))
    for step in range(100):
        share = abs(step - 50) / 50
        colour = (
            (int(255 * share), int(200 * share**2), 0)
            if step < 50
            else (0, int(200 * share**2), int(255 * share))
        )
        draw.line((COLUMNS - 26, 40 + step, COLUMNS - 14, 40 + step), fill=colour)
    for tick in range(16):
        y = _APEX[1] + tick * 10 / _MM_PER_PIXEL
        draw.line((COLUMNS - 52, y, COLUMNS - (46 if tick % 5 else 40), y), fill=(150, 150, 150))
    return np.asarray(image)
