"""What the reader hands to an uploader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importer.reading.opening import Instance
    from importer.work import WaitingFile
    from pacs.ids import ClinicId


@dataclass(slots=True, eq=False)
class Upload:
    """A file whose study and series are reserved, open, on its way to the archive."""

    file: WaitingFile
    instance: Instance


@dataclass(slots=True, eq=False)
class Batch:
    """Work for an uploader: files of one clinic to be sent in one request, and files only to be moved.

    Of `look_ups` the archive is asked whose their studies are, which the catalog does not know.
    """

    clinic_id: ClinicId
    uploads: list[Upload] = field(default_factory=list)
    moves: list[WaitingFile] = field(default_factory=list)
    look_ups: list[WaitingFile] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.files)

    @property
    def asks_archive(self) -> bool:
        """Whether it can tell how the archive is."""
        return bool(self.uploads or self.look_ups)

    @property
    def files(self) -> list[WaitingFile]:
        """All of its files."""
        return [*self.moves, *self.look_ups, *(upload.file for upload in self.uploads)]

    @property
    def size(self) -> int:
        """Bytes of its files as they lie in the inbox."""
        return sum(file.identity.size for file in self.files)
