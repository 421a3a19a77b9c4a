"""One file held against the archive: asked again before anything is said to be wrong."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from admin.verifying.comparison import FileChangedError, difference
from admin.verifying.opened import OpenFile
from admin.verifying.outcome import Outcome, Verdict
from importer.dicom.refusal import SkippedFileError, UnstorableFileError
from importer.files.names import is_litter
from importer.files.tree import folder, identity_of
from pacs.archive import ArchiveUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from admin.processed import Place
    from admin.verifying.deletions import Deletions
    from admin.verifying.owners import Owners
    from pacs.archive import Archive

PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Seconds between attempts at an archive that does not answer."""
_WRITTEN_TO = "it was written to meanwhile"
# The archive's word about one instance, such as Orthanc's when a file of its storage is gone (500, measured);
# all others are about the archive.
_ABOUT_ONE = frozenset({"status-400", "status-406", "status-410", "status-500", "interrupted", "not-dicom"})


class _AbsentError(Exception):
    """The archive does not have the instance, or does not give it."""


class Judge:
    """Says of files whether the archive has the same. Safe to share among threads.

    `root` is the tree that places are of; `deletions` tell what the archive need not have, and `owners` whose
    an image may be there.
    """

    def __init__(
        self,
        root: Path,
        archive: Archive,
        deletions: Deletions,
        owners: Owners,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._root, self._archive, self._pauses = root, archive, pauses
        self._deletions, self._owners = deletions, owners

    def read(self, place: Place) -> OpenFile | Verdict:
        """The open file, or what is to be said of it without asking the archive."""
        if is_litter(place.path.rpartition("/")[2]):
            return Verdict(place, Outcome.SKIPPED, "a file system's own file")
        try:
            return OpenFile.at(self._root, place)
        except SkippedFileError as error:
            return Verdict(place, Outcome.SKIPPED, error.text)
        except UnstorableFileError as error:
            return Verdict(place, Outcome.DIFFERENT, f"it cannot be read any more ({error.reason})")
        except FileNotFoundError:
            return Verdict(place, Outcome.GONE)
        except OSError as error:
            return Verdict(place, Outcome.DIFFERENT, f"it cannot be read: {error.strerror}")

    def judge(self, place: Place) -> Verdict:
        """Read a file and compare it.

        Raises:
            ArchiveUnavailableError: the archive does not answer, with all patience.
        """
        found = self.read(place)
        if isinstance(found, Verdict):
            return found
        with found:
            return self.compare(found)

    def compare(self, file: OpenFile) -> Verdict:
        """Hold an open file against the archive.

        Raises:
            ArchiveUnavailableError: the archive does not answer, with all patience.
        """
        for pause in self._pauses:
            with suppress(ArchiveUnavailableError):
                return self._compare(file)
            time.sleep(pause)
        return self._compare(file)

    def _compare(self, file: OpenFile) -> Verdict:
        try:
            found = self._difference(file)
            found = _WRITTEN_TO if file.has_changed() else found
        except FileChangedError:
            found = _WRITTEN_TO
        except OSError as error:
            found = f"it cannot be read: {error.strerror}"
        except _AbsentError as absent:
            return self._missing(file, str(absent))
        if found and self._is_deleted(file):
            return verdict_on(file, Outcome.DELETED)
        return verdict_on(file, Outcome.DIFFERENT if found else Outcome.VERIFIED, found)

    def _difference(self, file: OpenFile) -> str:
        try:
            return self._ask(file)
        except ArchiveUnavailableError as error:
            if error.reason not in _ABOUT_ONE:
                raise
        # Only if the archive is well otherwise, and says so twice, it is this instance's trouble.
        self._archive.is_empty()
        try:
            return self._ask(file)
        except ArchiveUnavailableError as error:
            if error.reason not in _ABOUT_ONE:
                raise
            raise _AbsentError(f"the archive does not give it ({error.reason})") from None

    def _ask(self, file: OpenFile) -> str:
        header = file.header
        with self._archive.instance(
            header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        ) as stored:
            if stored is None:
                raise _AbsentError("the archive does not have it")
            may_have_had = partial(self._owners.may_have_had, header.study_instance_uid, file.place.clinic_id)
            return difference(header, file.fd, stored, may_have_had)

    def _missing(self, file: OpenFile, detail: str) -> Verdict:
        if self._is_deleted(file):
            return verdict_on(file, Outcome.DELETED)
        if not self._is_still_there(file):
            return verdict_on(file, Outcome.GONE)
        return verdict_on(file, Outcome.MISSING, detail)

    def _is_deleted(self, file: OpenFile) -> bool:
        return self._deletions.explain(file.header.study_instance_uid, file.place)

    def _is_still_there(self, file: OpenFile) -> bool:
        """Whether nobody has taken it out of processed, to import it anew or to delete it."""
        *above, name = file.place.parts
        try:
            with folder(self._root, above) as folder_fd:
                return identity_of(folder_fd, name) == file.identity
        except FileNotFoundError:
            return False


def verdict_on(file: OpenFile, outcome: Outcome, detail: str = "") -> Verdict:
    """The verdict on an instance that was read."""
    header = file.header
    return Verdict(
        file.place, outcome, detail, file.identity, header.study_instance_uid, header.sop_instance_uid
    )
