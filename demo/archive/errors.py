"""What can go wrong in the archive.

ArchiveError
├── RequestError            the request cannot be answered: its HTTP status and a sentence
├── UnreadableInstanceError the bytes are no DICOM file that can be kept
├── StorageFullError        no room is left for the bytes
└── ArchiveInUseError       another process serves the same folder
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.archive.index import InstanceEntry


class ArchiveError(Exception):
    """Base of all errors of the archive."""


class RequestError(ArchiveError):
    """A request that cannot be answered.

    Args:
        status: HTTP status code, 4xx or 507.
        detail: one sentence for the caller, without patient data.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class UnreadableInstanceError(ArchiveError):
    """Bytes that are not a DICOM file with valid UIDs, or that end too early."""


class StorageFullError(ArchiveError):
    """No room is left on the disk, or the archive's own limit is reached.

    ``entry`` is the instance that found no room, as far as its header arrived.
    """

    entry: InstanceEntry | None = None


class ArchiveInUseError(ArchiveError):
    """Another process serves the same folder."""
