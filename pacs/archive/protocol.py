"""What a service may ask of the archive, and how the archive may let it down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pacs.archive.model import ArchivedStudy, DicomJson, ListedStudy, StoreAnswer
    from pacs.archive.parts import Segment
    from pacs.ids import Uid


class ArchiveError(Exception):
    """Base of what the archive client raises."""


class ArchiveUnavailableError(ArchiveError):
    """The archive gave no answer about the files or studies in question.

    `reason` is a short code for logs and metrics: `unreachable`, `timeout`, `interrupted`, `redirect`,
    `status-503`, `not-dicom-json`, `not-dicom`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the archive is not available: {reason}")
        self.reason = reason


class RequestTooLargeError(ArchiveUnavailableError):
    """413: the archive, or a proxy before it, takes no body of this size."""

    def __init__(self) -> None:
        super().__init__("status-413")


class SourceChangedError(ArchiveError):
    """A file changed or became unreadable while it was being sent; the request was broken off."""


@dataclass(frozen=True)
class Part:
    """One instance to be stored: the bytes of a Part 10 file, piece by piece.

    `unchanged` is asked when its last byte was sent, before the request goes on: pieces in memory are older
    than ranges of a file, and together they must be one instance.
    """

    segments: Sequence[Segment]
    size: int
    unchanged: Callable[[], bool] = lambda: True


class Lister(Protocol):
    """Asks for one page of all studies; an empty one is past the last. Safe to share among threads.

    None stands for a study without a UID. A study may be on two pages, and one that comes or goes meanwhile
    may hide another: a caller that misses one asks for it by its UID.
    """

    def __call__(self, offset: int, limit: int) -> list[ListedStudy | None]:
        """The page that begins with the study after `offset` others."""


class Archive(Protocol):
    """A DICOMweb archive. Every method may raise ArchiveUnavailableError. Safe to share among threads."""

    def store(self, parts: Sequence[Part]) -> StoreAnswer:
        """Store instances in one request (STOW-RS, PS3.18 section 10.5).

        Raises:
            RequestTooLargeError: the body is too large.
            SourceChangedError: a file changed under the request.
        """

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        """One study with its series; None when the archive lists none of that UID."""

    def is_empty(self) -> bool:
        """Whether it lists no study; raises where the answer is not an archive's."""

    def lister(self) -> Lister:
        """What asks for every study with its attributes, page by page."""

    def has_instance(self, study_uid: Uid, sop_instance_uid: Uid) -> bool:
        """Whether the archive lists this instance in this study."""

    def first_instance_metadata(self, study_uid: Uid, series_uid: Uid) -> DicomJson | None:
        """The whole header of the first of a series' `instance_uids`; None when there is none."""

    def instance_uids(self, study_uid: Uid, series_uid: Uid) -> list[Uid]:
        """The SOP Instance UIDs of a series, sorted."""

    def instance(
        self, study_uid: Uid, series_uid: Uid, sop_instance_uid: Uid
    ) -> AbstractContextManager[Iterator[bytes] | None]:
        """One instance as it was stored, in chunks while they come; None when there is none."""

    def delete(self, study_uid: Uid) -> None:
        """Remove a study; one that is not there is no error."""

    def overwrites(self) -> bool | None:
        """Whether a stored instance is replaced by a new one of the same UID; None when it does not say."""
