"""Plain radiographs: a chest through the CT phantom, and a hand of bars of bone and flesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydicom.uid import ComputedRadiographyImageStorage

from demo.samples.body import paint_body
from demo.samples.study import new_instance, set_grey_pixels

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from demo.samples.study import Series

    Picture = np.ndarray[Any, Any]

_BITS_STORED = 12
_MAXIMUM = (1 << _BITS_STORED) - 1
_SEED = 88
# Attenuation per mm relative to soft tissue.
_BONE = 2.4


class Film:
    """Depth in mm of soft tissue along the beam, seen from the front.

    Args:
        rows, columns: of the picture.
        spacing: of its pixels in mm; the middle is at (0, 0), y upwards.
    """

    def __init__(self, rows: int, columns: int, spacing: float) -> None:
        self.x = ((np.arange(columns) - (columns - 1) / 2) * spacing).astype(np.float32)[None, :]
        self.y = (((rows - 1) / 2 - np.arange(rows)) * spacing).astype(np.float32)[:, None]
        self.depth = np.zeros((rows, columns), np.float32)

    def merge_bar(
        self,
        into: Picture,
        start: tuple[float, float],
        end: tuple[float, float],
        radii: tuple[float, float],
        *,
        weight: float = 1.0,
        hollow: float = 0.0,
    ) -> None:
        """Lay the depth of a round bar over a picture where it is more than what is there.

        Args:
            into: the picture.
            start: one end.
            end: the other end.
            radii: at the two ends; between them it changes evenly.
            weight: attenuation relative to soft tissue.
            hollow: how much of the weight the inner 60 % of the radius lacks.
        """
        rows, columns = self._around(start, end, max(radii))
        x, y = self.x[:, columns], self.y[rows]
        way = np.array(end) - np.array(start)
        along = np.clip(((x - start[0]) * way[0] + (y - start[1]) * way[1]) / float(way @ way), 0, 1)
        off = np.hypot(x - start[0] - along * way[0], y - start[1] - along * way[1])
        radius = radii[0] + (radii[1] - radii[0]) * along
        depth = np.sqrt(np.clip(radius**2 - off**2, 0, None))
        if hollow:
            depth -= hollow * np.sqrt(np.clip((0.6 * radius) ** 2 - off**2, 0, None))
        np.maximum(into[rows, columns], 2 * weight * depth, out=into[rows, columns])

    def _around(
        self, start: tuple[float, float], end: tuple[float, float], margin: float
    ) -> tuple[slice, slice]:
        low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
        columns = np.searchsorted(self.x[0], (low[0], high[0]))
        rows = np.searchsorted(-self.y[:, 0], (-high[1], -low[1]))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))


def chest(series: Series) -> FileDataset:
    """A chest from behind to the front, MONOCHROME2: the rays through the CT phantom."""
    size = (1152, 1216)
    across = np.arange(-172.5, 173, 0.75)
    body = paint_body(across, np.arange(-112, 114, 2.0), np.arange(-22, 343, 1.0) - 4, lesions=True)
    # What attenuates is all but air; bone more than its density says, at these energies.
    tissue = np.clip(body.values + 1000.0, 0, None) / 1000.0 + np.clip(body.values - 250.0, 0, None) / 500.0
    depth = Image.fromarray(tissue.sum(axis=1)[::-1] * 2.0).resize(size, Image.Resampling.BICUBIC)
    shadow = np.clip(np.asarray(depth), 0, None) ** 0.85
    spread = _MAXIMUM / float(np.percentile(shadow, 99.7))
    dataset = _film_dataset(series, _with_grain(shadow * spread * 0.92 + 120), 0.3, "MONOCHROME2")
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.WindowCenter, dataset.WindowWidth = 2150, 3300
    return dataset


# Fingers of a left hand seen from its back: (knuckle, tip direction in degrees from upwards, lengths of the
# metacarpal and of the phalanges), mm.
_FINGERS = (
    ((-36, 4), 52, (40, 30, 24, 0)),
    ((-22, 34), 9, (62, 42, 25, 19)),
    ((-2, 38), 1, (60, 46, 30, 20)),
    ((17, 33), -6, (54, 43, 28, 20)),
    ((33, 22), -15, (50, 34, 20, 18)),
)


_WRIST = np.array([-2.0, -42.0])
_CARPALS = (
    (-19, -32, 7.0),
    (-10, -33, 6.0),
    (1, -33, 7.5),
    (11, -32, 7.0),
    (-17, -46, 8.0),
    (-4, -47, 8.0),
    (8, -45, 6.5),
    (13, -43, 4.5),
)
_FLESH = (
    ((-14, -180), (-12, -40)),
    ((14, -180), (12, -40)),
    ((0, -40), (0, 26)),
    ((-14, -30), (-20, 22)),
    ((12, -30), (24, 16)),
)


def hand(series: Series) -> FileDataset:
    """A left hand, MONOCHROME1 as many plates deliver it."""
    film = Film(1320, 920, 0.22)
    flesh, bones = np.zeros_like(film.depth), np.zeros_like(film.depth)
    for finger in _FINGERS:
        _finger(film, flesh, bones, finger)
    _palm(film, flesh, bones)
    # MONOCHROME1: high is dark, so that what the rays pass is high.
    exposure = _MAXIMUM - 250 - 54.0 * (_smooth(flesh) + bones)
    dataset = _film_dataset(series, _with_grain(exposure), 0.22, "MONOCHROME1")
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["R", "F"]
    dataset.ImageLaterality = "L"
    dataset.WindowCenter, dataset.WindowWidth = 2300, 3200
    return dataset


def _finger(
    film: Film, flesh: Picture, bones: Picture, finger: tuple[tuple[int, int], int, tuple[int, ...]]
) -> None:
    knuckle, degrees, lengths = finger
    up = np.array([-np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    head = np.array(knuckle, dtype=float)
    to_wrist = _WRIST - head
    foot = head + to_wrist / np.linalg.norm(to_wrist) * lengths[0]
    _bone(film, bones, foot, head, 4.6)
    film.merge_bar(flesh, _xy(foot), _xy(head), (13, 12))
    start, radius = head, 4.1
    for length in filter(None, lengths[1:]):
        end = start + up * length
        _bone(film, bones, start + up * 1.6, end, radius)
        film.merge_bar(flesh, _xy(start), _xy(end + up * 3), (radius + 5.2, radius + 4.2))
        start, radius = end, radius * 0.83


def _bone(film: Film, bones: Picture, start: Picture, end: Picture, radius: float) -> None:
    """A long bone: a hollow shaft with broad ends of sponge."""
    way = (end - start) / np.linalg.norm(end - start)
    shaft = (_xy(start + way * radius), _xy(end - way * radius))
    film.merge_bar(bones, *shaft, (radius, radius * 0.85), weight=_BONE, hollow=0.8)
    for at, size in ((start + way * radius, 1.45), (end - way * radius, 1.3)):
        film.merge_bar(bones, _xy(at - way), _xy(at + way), (radius * size, radius * size), weight=1.25)


def _palm(film: Film, flesh: Picture, bones: Picture) -> None:
    for x, y, radius in _CARPALS:
        film.merge_bar(bones, (x, y - 2), (x, y + 2), (radius, radius), weight=1.35, hollow=0.25)
    _bone(film, bones, np.array([-11.0, -175.0]), np.array([-11.0, -58.0]), 7.6)
    _bone(film, bones, np.array([11.0, -175.0]), np.array([11.0, -57.0]), 5.6)
    for start, end in _FLESH:
        film.merge_bar(flesh, start, end, (19, 17))


def _xy(point: Picture) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _smooth(picture: Picture, rounds: int = 24) -> Picture:
    for _ in range(rounds):
        wide = np.pad(picture, 2, mode="edge")
        picture = 0.25 * wide[:-4, 2:-2] + 0.5 * picture + 0.25 * wide[4:, 2:-2]
        wide = np.pad(picture, 2, mode="edge")
        picture = 0.25 * wide[2:-2, :-4] + 0.5 * picture + 0.25 * wide[2:-2, 4:]
    return picture


def _with_grain(exposure: Picture) -> Picture:
    grain = np.asarray(np.random.default_rng(_SEED).normal(0, 22, exposure.shape), np.float32)
    stored: Picture = np.clip(np.rint(exposure + grain), 0, _MAXIMUM).astype(np.uint16)
    return stored


def _film_dataset(series: Series, pixels: Picture, spacing: float, photometric: str) -> FileDataset:
    dataset = new_instance(series, ComputedRadiographyImageStorage, 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.AcquisitionNumber = 1
    dataset.KVP = 110 if series.body_part == "CHEST" else 52
    dataset.PlateType = "SAMPLE"
    dataset.CassetteOrientation = "PORTRAIT"
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.PixelSpacing = [spacing, spacing]
    dataset.BurnedInAnnotation = "NO"
    set_grey_pixels(dataset, pixels, bits_stored=_BITS_STORED, photometric=photometric)
    return dataset
