"""What a part of the measurements is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        folder: of this part's own, empty, on a disk; removed after.
        quick: fewer rounds and less data, for a look during work.
        say: tells the person who waits what is going on.
    """

    folder: Path
    quick: bool
    say: Callable[[str], None]

    @property
    def rounds(self) -> int:
        """How often everything is measured, in turn."""
        return 2 if self.quick else 5
