"""From a stable file to an instance that can be reserved and sent, or to what else it is."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import Reason, SkippedFileError, UnstorableFileError
from importer.dicom.tag import tag
from importer.files.moving import GoneError, MoveError
from importer.files.names import is_litter
from importer.files.tree import Identity, is_being_written
from importer.work import End, Known, Settlement
from pacs.archive import Part
from pacs.catalog.ownership import Claim, Refusal

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from importer.dicom.part10 import InstanceHeader
    from importer.dicom.tag import TaggedInstance
    from importer.files.filing import Filer
    from importer.work import WaitingFile
    from pacs.catalog.imports import Outcome
    from pacs.ids import ClinicId

NOT_WRITABLE, BEING_WRITTEN, INCOMPLETE = "source-not-writable", "being-written", "incomplete"
_ATTEMPTS = {BEING_WRITTEN: 4, INCOMPLETE: 15}
"""With their back-off, 15 s and ten minutes beyond the cooldown."""
_HALF = frozenset(
    {
        Reason.TRUNCATED,
        Reason.MISSING_DELIMITER,
        Reason.MALFORMED_PIXEL_DATA,
        Reason.NO_SOP_CLASS_UID,
        Reason.NO_SOP_INSTANCE_UID,
        Reason.NO_STUDY_INSTANCE_UID,
        Reason.NO_SERIES_INSTANCE_UID,
    }
)
# Not of STUDY_OWNERLESS, which is none of a reservation's: see `importer.sending.looking_up`.
_REFUSED = {
    Refusal.STUDY_OWNED: "The study belongs to another clinic, which brought it first.",
    Refusal.SERIES_OWNED: "The series belongs to another clinic, which brought it first.",
    Refusal.PATIENT_ID_DIFFERS: "The study is already registered with a different PatientID.",
    Refusal.SERIES_IN_ANOTHER_STUDY: "The series already belongs to another study.",
}
_DESCRIPTORS_USED_UP = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(slots=True, eq=False)
class Instance:
    """An open file whose header was read. Close it when it was sent, or is not going to be."""

    fd: int
    header: InstanceHeader
    known: Known
    _tagged: TaggedInstance | None = None

    @classmethod
    def read(cls, fd: int) -> Instance | Settlement:
        """Read the open file; what cannot be stored is settled, and `fd` stays the caller's then.

        Raises:
            OSError: the file system failed; nothing is known about the file.
        """
        try:
            header = read_instance(fd)
        except UnstorableFileError as error:
            return _settled(error)
        known = Known(header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        return cls(fd, header, known)

    def claim(self, clinic_id: ClinicId) -> Claim:
        """What is to be reserved for it."""
        header = self.header
        return Claim(clinic_id, header.study_instance_uid, header.series_instance_uid, header.patient_id)

    def part(self, file: WaitingFile, now: datetime, temporary_folder: Path) -> Part | Settlement:
        """The instance with the clinic written into it, to be sent.

        Raises:
            OSError: the file system failed.
        """
        try:
            self._tagged = tag(
                self.header, self.fd, file.clinic_id, modified_at=now, temporary_folder=temporary_folder
            )
        except UnstorableFileError as error:
            return _settled(error, self.known)
        return Part(self._tagged.segments, self._tagged.size, lambda: self.is_still(file.identity))

    def is_still(self, identity: Identity) -> bool:
        """Whether the open file has not been written to."""
        return Identity.of(os.fstat(self.fd)) == identity

    def close(self) -> None:
        """Close the file and what was made of it."""
        if self._tagged is not None:
            self._tagged.close()
            self._tagged = None
        with suppress(OSError):
            os.close(self.fd)


@dataclass(frozen=True)
class Blocked:
    """The file cannot be handled now; `known` is what it holds, as far as it was read."""

    reason: str
    errno: int | None = None
    known: Known | None = None


def open_instance(filer: Filer, file: WaitingFile) -> Instance | Settlement | Blocked | End:
    """Open a file and read its header; the caller closes an instance."""
    if is_litter(file.path.rpartition("/")[2]):
        return Settlement("skipped", "litter", "A file system's own file.")
    opened = _open(filer, file)
    return _read(filer, file, opened) if isinstance(opened, int) else opened


def _open(filer: Filer, file: WaitingFile) -> int | Blocked | End:
    try:
        return filer.open(file)
    except GoneError:
        return End.GONE
    except MoveError:
        return End.CHANGED
    except OSError as error:
        return _unreadable(error)


def _read(filer: Filer, file: WaitingFile, descriptor: int) -> Instance | Settlement | Blocked:
    try:
        found = Instance.read(descriptor)
        reason = _obstacle(filer, file, descriptor, found)
    except OSError as error:
        os.close(descriptor)
        return _unreadable(error)
    except BaseException:
        os.close(descriptor)
        raise
    if reason or isinstance(found, Settlement):
        os.close(descriptor)
    return Blocked(reason, known=found.known) if reason else found


def _obstacle(filer: Filer, file: WaitingFile, descriptor: int, found: Instance | Settlement) -> str:
    """Why the file has to wait, whatever was found in it; empty when it need not."""
    if not filer.lets_go(file):
        return NOT_WRITABLE
    lacks_pixels = isinstance(found, Instance) and found.header.lacks_pixels
    # A writer that pauses for longer than the cooldown, between two elements, has made half an instance
    # that reads like a whole one. Some programs never close what they have written.
    if is_being_written(descriptor):
        return BEING_WRITTEN if lacks_pixels or not _waited(file, BEING_WRITTEN) else ""
    is_half = lacks_pixels if isinstance(found, Instance) else found.reason in _HALF
    outcome = "stored" if isinstance(found, Instance) else found.outcome
    if is_half and not _waited(file, INCOMPLETE) and filer.copies(file, outcome):
        return INCOMPLETE
    return ""


def _waited(file: WaitingFile, reason: str) -> bool:
    return file.trouble == reason and file.attempts >= _ATTEMPTS[reason]


def _unreadable(error: OSError) -> Blocked:
    reason = "out-of-descriptors" if error.errno in _DESCRIPTORS_USED_UP else "unreadable"
    return Blocked(reason, error.errno)


def _settled(error: UnstorableFileError, known: Known | None = None) -> Settlement:
    uids = error.uids
    found = known or Known(
        uids.get("StudyInstanceUID"), uids.get("SeriesInstanceUID"), uids.get("SOPInstanceUID")
    )
    outcome: Outcome = "skipped" if isinstance(error, SkippedFileError) else "failed"
    return Settlement(outcome, str(error.reason), error.text, found)


def refused(verdict: Refusal, known: Known) -> Settlement:
    """What becomes of a file whose study or series could not be reserved."""
    return Settlement("failed", verdict.value, _REFUSED[verdict], known)
