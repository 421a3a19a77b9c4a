"""Puts a failed file, changed, into its clinic's inbox; the failed file stays as it is."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.files.moving import Spot, StrangerError, Target, move
from importer.files.names import candidates
from importer.files.scratch import temporary_file
from importer.files.tree import Identity, folder, make_folder_beside, open_file, split
from pacs import MODIFYING_SYSTEM

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from typing import Protocol

    from importer.dicom.part10 import InstanceHeader
    from importer.files.failed import FailedFile

    class Change(Protocol):
        """What is done to one instance, and whether it came out."""

        def make(self, dataset: Dataset) -> None:
            """Change it."""

        def fault(self, written: InstanceHeader) -> str | None:
            """What is wrong with the copy, as the importer will read it."""


class NotCorrectableError(Exception):
    """A file that cannot be changed so; the text says why."""


@dataclass(frozen=True)
class Rewriting:
    """Where from and where to.

    Args:
        failed_root: FAILED_PATH.
        inbox_root: INBOX_PATH.
    """

    failed_root: Path
    inbox_root: Path

    def apply(self, file: FailedFile, change: Change) -> str:
        """Put a changed copy of this file into its clinic's inbox; returns its path there.

        One file is held in memory while it is written.

        Raises:
            NotCorrectableError: the file cannot be read, or not be changed so.
            StrangerError: it was written to meanwhile.
            OSError: a folder or file cannot be read or written.
        """
        *above, name = split(file.path)
        with temporary_file(self.inbox_root, file.clinic_id) as (copy, scratch_fd, temporary):
            identity = self._write(file, change, copy)
            making = make_folder_beside(self.inbox_root, (file.clinic_id,), above, candidates)
            with making as (target_fd, beside):
                target = Target(target_fd, lambda: candidates(name), self.inbox_root, file.clinic_id)
                placed = move(Spot(scratch_fd, temporary, identity), target)
        return "/".join((*beside, placed))

    def _write(self, file: FailedFile, change: Change, copy: BinaryIO) -> Identity:
        *above, name = split(file.path)
        with folder(self.failed_root, (file.clinic_id, file.day, *above)) as source_fd:
            reading, found = open_file(source_fd, name)
        with os.fdopen(reading, "rb") as source:
            if found != file.identity:
                raise StrangerError
            _rewrite(source, copy, change)
        copy.flush()
        os.fsync(copy.fileno())
        _check(copy.fileno(), change)
        return Identity.of(os.fstat(copy.fileno()))


def _rewrite(source: BinaryIO, copy: BinaryIO, change: Change) -> None:
    with warnings.catch_warnings(action="ignore"):
        try:
            header = read_instance(source.fileno())
            dataset = pydicom.dcmread(source, force=True)
            change.make(dataset)
            dataset.file_meta.TransferSyntaxUID = UID(header.syntax.uid)
            dataset.file_meta.MediaStorageSOPClassUID = UID(header.sop_class_uid)
            dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
            dataset.save_as(copy, enforce_file_format=True)
        except UnstorableFileError as error:
            raise NotCorrectableError(f"can no longer be read: {error.text}") from error
        except (ValueError, TypeError, AttributeError, NotImplementedError, LookupError) as error:
            # pydicom's own ways to say that it cannot read or write a data set.
            raise NotCorrectableError(f"cannot be rewritten ({type(error).__name__})") from error


def _check(descriptor: int, change: Change) -> None:
    """Read the copy as the importer will."""
    try:
        written = read_instance(descriptor)
    except UnstorableFileError as error:
        raise NotCorrectableError(f"the corrected copy would be refused: {error.text}") from error
    fault = change.fault(written)
    if fault:
        raise NotCorrectableError(fault)


def note_replaced(dataset: Dataset, before: Dataset, reason: str, now: datetime) -> None:
    """Say in OriginalAttributesSequence (0400,0561) what was there before (PS3.3 section C.12.1.1.9).

    Args:
        dataset: that is changed.
        before: the elements of its top level that were replaced, as they were.
        reason: ReasonForTheAttributeModification, a defined term.
        now: the time of the change, with a time zone.
    """
    item = Dataset()
    item.ModifiedAttributesSequence = Sequence([before])
    item.AttributeModificationDateTime = f"{now:%Y%m%d%H%M%S.%f%z}"
    item.ModifyingSystem = MODIFYING_SYSTEM
    item.SourceOfPreviousValues = ""
    item.ReasonForTheAttributeModification = reason
    history = list(dataset.get("OriginalAttributesSequence") or [])
    dataset.OriginalAttributesSequence = Sequence([*history, item])
