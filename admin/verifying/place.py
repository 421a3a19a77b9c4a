"""Where a file lies that is verified, and the file itself, open, with its header."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from importer.dicom.part10 import read_instance
from importer.files.tree import Identity, folder, open_file, split

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from importer.dicom.part10 import InstanceHeader
    from pacs.ids import ClinicId


class Place(NamedTuple):
    """A file in a clinic's folder of processed, or of the inbox (without a day).

    Attributes:
        clinic_id: whose.
        day: the day's folder; empty in the inbox.
        path: below. May hold surrogate escapes and a patient's name: never for a log.
        filed_ns: when it got there, by the file system's clock.
    """

    clinic_id: ClinicId
    day: str
    path: str
    filed_ns: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the name below the tree's root."""
        return (self.clinic_id, *((self.day,) if self.day else ()), *split(self.path))

    @property
    def filed(self) -> tuple[str, int]:
        """Sorts places of one instance in processed, whoever's, by when they were filed."""
        return self.day, self.filed_ns

    def __str__(self) -> str:
        return "/".join(self.parts)


def key_of(header: InstanceHeader) -> bytes:
    """Names the instance, in 16 bytes."""
    uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
    return hashlib.blake2b("|".join(uids).encode("ascii"), digest_size=16).digest()


@dataclass
class OpenFile:
    """A readable instance. Use it in a `with` block, or close it."""

    place: Place
    fd: int
    identity: Identity
    header: InstanceHeader

    @classmethod
    def at(cls, root: Path, place: Place) -> Self:
        """Open it and read its header.

        Raises:
            importer.dicom.refusal.UnstorableFileError: it is none that the importer would store.
            OSError: it is gone, no regular file any more, or cannot be read.
        """
        *above, name = place.parts
        with folder(root, above) as folder_fd:
            fd, identity = open_file(folder_fd, name)
        try:
            return cls(place, fd, identity, read_instance(fd))
        except BaseException:
            os.close(fd)
            raise

    def has_changed(self) -> bool:
        """Whether it was written to since it was opened."""
        return Identity.of(os.fstat(self.fd)) != self.identity

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
