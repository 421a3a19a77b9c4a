"""How much work one file may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that a hostile file meets and a real one does not, so that it cannot hold up the others.

    Attributes:
        depth: of nested sequences. Structured reports, the deepest real ones, nest about 20 deep.
        elements: headers of elements, items and fragments. An enhanced multi-frame CT of 5,000 frames has
            some 200,000. A million take 1 s (measured).
        inflated_bytes: of a deflated data set.
        inflated_ratio: bytes for each deflated byte, applied above 64 MB.
    """

    depth: int = 64
    elements: int = 1_000_000
    inflated_bytes: int = 2 << 30
    inflated_ratio: int = 200
