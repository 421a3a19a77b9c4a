r"""The archive as the services see it, whichever server it is.

ArchiveError
├── ArchiveUnavailableError     no answer about a file or study: wait and try again
│   └── RequestTooLargeError    413: fewer bytes a request may do
└── SourceChangedError          a file to be sent shrank or vanished while it was read
"""

from pacs.archive.model import ArchivedStudy, ListedStudy, StoreAnswer
from pacs.archive.parts import FileRange, Segment
from pacs.archive.protocol import (
    Archive,
    ArchiveError,
    ArchiveUnavailableError,
    Lister,
    Part,
    RequestTooLargeError,
    SourceChangedError,
)

__all__ = [
    "Archive",
    "ArchiveError",
    "ArchiveUnavailableError",
    "ArchivedStudy",
    "FileRange",
    "ListedStudy",
    "Lister",
    "Part",
    "RequestTooLargeError",
    "Segment",
    "SourceChangedError",
    "StoreAnswer",
]
