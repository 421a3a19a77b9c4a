"""Tags every instance of a study that has a new owner for that one: read, tag, store, as the importer does.

The catalog has made the study the new owner's before (`pacs.catalog.transfers.begin`). An instance that
bears its mark already is left alone, so this can be broken off at any moment and begun again. One that the
archive cannot give out, or does not take, does not keep the others from being tagged.

The first instance by its UID of every series comes before all others: should the catalog be lost meanwhile,
these are asked whose the study is (`pacs.written_owner`). One of them that cannot be tagged still names the
old owner, who would get back a study of this one series.
"""

from __future__ import annotations

import errno
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

import pydicom

from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.dicom.tag import tag
from importer.files.filing import free_bytes
from pacs.archive import ArchiveUnavailableError, Part
from pacs.archive.listing import ABOUT_ONE_STUDY
from pacs.catalog import ownership, transfers
from pacs.refreshing import refresh
from pacs.written_owner import written_owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from importer.dicom.part10 import InstanceHeader
    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.catalog.transfers import Transfer
    from pacs.ids import Uid

_WORKERS = 2
_RESERVE_BYTES = 64 << 20
"""So much of the disk is left to others."""
_SHOWN_FAULTS = 20
_ABOUT_ONE_INSTANCE = ABOUT_ONE_STUDY | {
    "interrupted", "not-dicom", "status-404", "status-409", "status-413", "timeout",
}  # fmt: skip
_READ = ["InstitutionName", "OriginalAttributesSequence"]


class TransferError(Exception):
    """What is in the way of a transfer; it can be gone on with. The text says what to do."""


class StudyGoneError(Exception):
    """The study went to another clinic, or was deleted, meanwhile."""

    def __init__(self, study_uid: Uid) -> None:
        super().__init__(
            f"study {study_uid} went to another clinic meanwhile, or another `clinicpacs transfer` has "
            f"finished it, or it was deleted (then once more: clinicpacs delete {study_uid})"
        )


class _InstanceError(Exception):
    """Why one instance cannot be tagged."""


class _Instance(NamedTuple):
    series_uid: Uid
    sop_instance_uid: Uid


@dataclass(frozen=True)
class Tagging:
    """The work on the images of one transfer.

    Args:
        transfer: that is under way.
        folder: for one file at a time and thread, without a name.
        stable_age_seconds: the archive's.
        now: the time, with a time zone.
        advance: told of each instance that is done.
    """

    transfer: Transfer
    catalog: Catalog
    archive: Archive
    folder: Path
    stable_age_seconds: float
    now: Callable[[], datetime]
    advance: Callable[[int], None] = lambda _count: None

    def run(self) -> int:
        """Do all that is left to do; returns how many instances were tagged.

        Raises:
            TransferError: some instances could not be tagged; all others were.
            StudyGoneError: it is no longer this transfer's.
            ArchiveUnavailableError: the archive gave no answer.
            CatalogUnavailableError: the catalog cannot be used.
            OSError: there is no room for a file, or it cannot be written.
        """
        # So that the list names the new owner, however long the rest takes.
        self._refresh()
        done: set[_Instance] = set()
        faults: list[str] = []
        tagged = 0
        with ThreadPoolExecutor(_WORKERS) as workers:
            while any(left := [[each for each in group if each not in done] for group in self._listed()]):
                for group in left:
                    for found in workers.map(self._try, group):
                        if isinstance(found, str):
                            faults.append(found)
                        else:
                            tagged += found
                        self.advance(1)
                    done.update(group)
        with self.catalog.write() as connection:
            self._require_under_way(connection)
            ownership.mark(connection, self.transfer.study_uid, self.now())
        self._refresh()
        if faults:
            raise TransferError(_describe(faults, of=len(done)))
        return tagged

    def _try(self, instance: _Instance) -> bool | str:
        """Whether it had to be tagged, or why it cannot be."""
        try:
            return self._tag(instance)
        except _InstanceError as error:
            return f"{instance.sop_instance_uid}: {error}"
        except ArchiveUnavailableError as error:
            if error.reason not in _ABOUT_ONE_INSTANCE:
                raise
            # Does the archive answer at all?
            self.archive.study(self.transfer.study_uid)
            return f"{instance.sop_instance_uid}: the archive cannot read or store it ({error.reason})"

    def _listed(self) -> list[list[_Instance]]:
        """The first instance of each series, and all others."""
        study_uid = self.transfer.study_uid
        study = self.archive.study(study_uid)
        if study is None:
            raise TransferError("the archive does not list the study")
        series = [
            [_Instance(series_uid, each) for each in self.archive.instance_uids(study_uid, series_uid)]
            for series_uid in study.series_uids
        ]
        return [
            [each for instances in series for each in instances[:1]],
            [each for instances in series for each in instances[1:]],
        ]

    def _tag(self, instance: _Instance) -> bool:
        self._look_whether_under_way()
        with tempfile.TemporaryFile(dir=self.folder) as file:
            self._fetch(instance, file)
            header = _read(file)
            if _owner(file) == self.transfer.to_clinic:
                return False
            self._store(instance, header, file)
        return True

    def _look_whether_under_way(self) -> None:
        with self.catalog.read() as connection:
            self._require_under_way(connection)

    def _require_under_way(self, connection: Connection) -> None:
        if transfers.transfer_of(connection, self.transfer.study_uid) != self.transfer:
            raise StudyGoneError(self.transfer.study_uid)

    def _fetch(self, instance: _Instance, file: IO[bytes]) -> None:
        with self.archive.instance(self.transfer.study_uid, *instance) as chunks:
            if chunks is None:
                raise _InstanceError("the archive does not find it")
            for chunk in chunks:
                free = free_bytes(file.fileno())
                if free is not None and free < _RESERVE_BYTES + len(chunk):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
                file.write(chunk)
        file.flush()

    def _store(self, instance: _Instance, header: InstanceHeader, file: IO[bytes]) -> None:
        with tag(
            header,
            file.fileno(),
            self.transfer.to_clinic,
            modified_at=self.now().astimezone(),
            temporary_folder=self.folder,
        ) as tagged:
            self._look_whether_under_way()
            answer = self.archive.store([Part(tagged.segments, tagged.size)])
        if instance.sop_instance_uid not in answer.stored:
            raise _InstanceError("the archive does not take it")
        self._look_for_a_deletion()

    def _look_for_a_deletion(self) -> None:
        """What was stored after a deletion is to be removed by another one."""
        try:
            self._look_whether_under_way()
        except StudyGoneError:
            with self.catalog.write() as connection:
                transfers.begin_removal(connection, self.transfer.study_uid, self.now())
            raise

    def _refresh(self) -> None:
        refresh(
            self.catalog,
            self.archive,
            self.transfer.study_uid,
            stable_age_seconds=self.stable_age_seconds,
            # The importer lets its files wait meanwhile.
            busy=lambda: False,
            hide_missing=False,
            now=self.now,
        )


def _describe(faults: list[str], *, of: int) -> str:
    shown = [*sorted(faults)[:_SHOWN_FAULTS], *(["..."] if len(faults) > _SHOWN_FAULTS else [])]
    heading = f"{len(faults)} of {of} images could not be tagged: repair or remove them in /orthanc:"
    return "\n  ".join([heading, *shown])


def _read(file: IO[bytes]) -> InstanceHeader:
    try:
        return read_instance(file.fileno())
    except UnstorableFileError as error:
        raise _InstanceError(f"what the archive has is damaged: {error.text}") from error


def _owner(file: IO[bytes]) -> str | None:
    file.seek(0)
    header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_READ))
    return written_owner(header.to_json_dict(suppress_invalid_tags=True))
