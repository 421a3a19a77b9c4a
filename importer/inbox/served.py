"""What the scanner knows of a clinic that this importer serves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importer.files.failed_watch import FailedWatch
    from importer.inbox.look import EmptyFolders
    from importer.inbox.stability import StabilityTracker
    from importer.work import End, WaitingFile


@dataclass
class ServedClinic:
    """What is known of one clinic's folder, when it is to be looked at, and when files become stable."""

    tracker: StabilityTracker
    empty_folders: EmptyFolders
    failed: FailedWatch
    released: SimpleQueue[tuple[WaitingFile, End]] = field(default_factory=SimpleQueue)
    due: float = math.inf
    not_before: float = 0.0
    ripe_at: float = math.inf
    seen: bool = False
    missing: bool = False
    complained: bool = False
