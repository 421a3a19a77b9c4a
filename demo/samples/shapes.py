"""A volume that simple bodies are painted into, one over the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Volume = np.ndarray[Any, Any]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """A volume in the patient coordinate system.

    Attributes:
        values: float32, shape (slices, rows, columns), z towards the head, y to the back, x to the left.
        x, y, z: coordinates in mm of columns, rows and slices, rising.
    """

    values: Volume
    x: Volume
    y: Volume
    z: Volume

    @classmethod
    def of(cls, x: Volume, y: Volume, z: Volume, value: float) -> Canvas:
        """An even volume."""
        return cls(np.full((z.size, y.size, x.size), value, np.float32), x, y, z)

    def box(self, centre: Point, radii: Point) -> tuple[tuple[slice, ...], Volume, Volume, Volume]:
        """The part of the volume around a body, and its coordinates relative to the body's centre."""
        parts = tuple(
            slice(int(np.searchsorted(axis, c - r)), int(np.searchsorted(axis, c + r, side="right")))
            for axis, c, r in zip((self.z, self.y, self.x), centre[::-1], radii[::-1], strict=True)
        )
        z = (self.z[parts[0]] - centre[2])[:, None, None]
        y = (self.y[parts[1]] - centre[1])[None, :, None]
        x = (self.x[parts[2]] - centre[0])[None, None, :]
        return parts, x, y, z

    def ellipsoid(self, centre: Point, radii: Point, value: float, *, where: Volume | None = None) -> None:
        """Paint an ellipsoid, optionally only where a mask of the whole volume is set."""
        parts, x, y, z = self.box(centre, radii)
        inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
        if where is not None:
            inside &= where[parts]
        self.values[parts][inside] = value

    def cylinder(self, centre: Point, radii: tuple[float, float], value: float, half_length: float) -> None:
        """Paint an elliptic cylinder along z."""
        parts, x, y, z = self.box(centre, (*radii, half_length))
        inside = ((x / radii[0]) ** 2 + (y / radii[1]) ** 2 <= 1) & (abs(z) <= half_length)
        self.values[parts][inside] = value

    def tube(self, start: Point, end: Point, radius: float, value: float, *, where: Volume | None) -> None:
        """Paint a straight vessel with round ends."""
        a, b = np.array(start), np.array(end)
        middle, half = (a + b) / 2, abs(b - a) / 2 + radius
        parts, x, y, z = self.box(tuple(middle), tuple(half))
        axis = (b - a) / max(float(np.dot(b - a, b - a)), 1e-6)
        along = np.clip(x * axis[0] + y * axis[1] + z * axis[2] + 0.5, 0, 1) - 0.5
        step = b - a
        distance = (x - along * step[0]) ** 2 + (y - along * step[1]) ** 2 + (z - along * step[2]) ** 2
        inside = distance <= radius**2
        if where is not None:
            inside &= where[parts]
        self.values[parts][inside] = value
