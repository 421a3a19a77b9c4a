"""A file that is verified: open, with its header."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from importer.dicom.part10 import read_instance
from importer.files.tree import Identity, folder, open_file

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from admin.processed import Place
    from importer.dicom.part10 import InstanceHeader


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
