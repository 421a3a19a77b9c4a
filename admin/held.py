"""Whether the archive has the image of a failed file."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from admin.conflicts import opened
from admin.verifying.comparison import FileChangedError, difference
from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from pacs.archive import ArchiveUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from importer.files.failed import FailedFile
    from pacs.archive import Archive
    from pacs.ids import Uid


class Held(Enum):
    """What the archive has under the UIDs of a file."""

    SAME = "the same image"
    LACKING = "nothing"
    DIFFERENT = "another image"
    UNKNOWN = "nobody can tell"


def _whoever(_owners: object) -> bool:
    """The study may be any clinic's: it is none of the file's own."""
    return True


def held(archive: Archive, failed_root: Path, file: FailedFile, study_uid: Uid) -> Held:
    """Compare a file with the image of its series and SOP Instance UID in a study of the archive."""
    try:
        with opened(failed_root, file) as source:
            header = read_instance(source.fileno())
            uids = (study_uid, header.series_instance_uid, header.sop_instance_uid)
            with archive.instance(*uids) as stored:
                if stored is None:
                    return Held.LACKING
                return Held.DIFFERENT if difference(header, source.fileno(), stored, _whoever) else Held.SAME
    except (ArchiveUnavailableError, FileChangedError, UnstorableFileError, OSError):
        return Held.UNKNOWN
