"""What is found of one file in processed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from admin.processed import Place
    from importer.files.tree import Identity
    from pacs.ids import Uid


class Outcome(StrEnum):
    """How a file in processed and the archive compare."""

    VERIFIED = "verified"
    """The archive has the same."""
    SUPERSEDED = "superseded"
    """A file of the same instance was filed after it, or is just being filed."""
    SKIPPED = "skipped"
    """It holds no image: a DICOMDIR or a file system's own."""
    DELETED = "deleted"
    """Its study was deleted by an administrator, and has perhaps been sent again since."""
    MISSING = "missing"
    """The archive does not have it, or does not give it."""
    DIFFERENT = "different"
    """The archive has something else under its name, or it cannot be read itself."""
    GONE = "gone"
    """It is not in processed any more."""


ALARMS = frozenset({Outcome.MISSING, Outcome.DIFFERENT})
"""What should never be."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one file.

    Attributes:
        place: where it lies.
        outcome: what was found.
        detail: a sentence, where there is more to say.
        identity: of the file that was compared; None when none was.
        study_uid: and
        sop_instance_uid: as far as they could be read.
    """

    place: Place
    outcome: Outcome
    detail: str = ""
    identity: Identity | None = None
    study_uid: Uid | None = None
    sop_instance_uid: Uid | None = None
