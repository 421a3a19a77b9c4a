"""Tags every instance of a study that has a new owner for that one: read, tag, store, as the importer does.

The catalog has made the study the new owner's before (`pacs.catalog.transfers.begin`). An instance that
bears its mark already is left alone, so this can be broken off at any moment and begun again.

The first instance by its UID of every series comes before all others: should the catalog be lost meanwhile,
these are asked whose the study is (`admin.restoring`).
"""

from __future__ import annotations

import errno
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

import pydicom

from admin.written_owner import written_owner
from importer.dicom.part10 import read_instance
from importer.dicom.refusal import UnstorableFileError
from importer.dicom.tag import tag
from importer.files.filing import free_bytes
from pacs.archive import Part
from pacs.catalog import ownership, transfers
from pacs.worklist import refresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.catalog.transfers import Transfer
    from pacs.ids import Uid

_WORKERS = 2
_RESERVE_BYTES = 64 << 20
"""So much of the disk is left to others."""
_READ = ["InstitutionName", "OriginalAttributesSequence"]


class TransferError(Exception):
    """What is in the way of a transfer; it can be gone on with. The text says what to do."""


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
            TransferError: something is in the way.
            ArchiveUnavailableError: the archive gave no answer.
            CatalogUnavailableError: the catalog cannot be used.
            OSError: there is no room for a file, or it cannot be written.
        """
        # So that the list names the new owner, however long the rest takes.
        self._refresh()
        done: set[_Instance] = set()
        tagged = 0
        with ThreadPoolExecutor(_WORKERS) as workers:
            while any(left := [[each for each in group if each not in done] for group in self._listed()]):
                for group in left:
                    for was_tagged in workers.map(self._tag, group):
                        tagged += was_tagged
                        self.advance(1)
                    done.update(group)
        with self.catalog.write() as connection:
            ownership.mark(connection, self.transfer.study_uid, self.now())
        self._refresh()
        return tagged

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
        self._check_under_way()
        with tempfile.TemporaryFile(dir=self.folder) as file:
            self._fetch(instance, file)
            if _owner(file) == self.transfer.to_clinic:
                return False
            self._store(instance, file)
        return True

    def _check_under_way(self) -> None:
        with self.catalog.read() as connection:
            if transfers.transfer_of(connection, self.transfer.study_uid) != self.transfer:
                raise TransferError("the study has gone elsewhere meanwhile")

    def _fetch(self, instance: _Instance, file: IO[bytes]) -> None:
        with self.archive.instance(self.transfer.study_uid, *instance) as chunks:
            if chunks is None:
                raise TransferError(f"the archive does not find instance {instance.sop_instance_uid}")
            for chunk in chunks:
                free = free_bytes(file.fileno())
                if free is not None and free < _RESERVE_BYTES + len(chunk):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
                file.write(chunk)
        file.flush()

    def _store(self, instance: _Instance, file: IO[bytes]) -> None:
        try:
            header = read_instance(file.fileno())
        except UnstorableFileError as error:
            raise TransferError(
                f"instance {instance.sop_instance_uid} cannot be tagged: {error.text}"
            ) from error
        with tag(
            header,
            file.fileno(),
            self.transfer.to_clinic,
            modified_at=self.now().astimezone(),
            temporary_folder=self.folder,
        ) as tagged:
            self._check_under_way()
            answer = self.archive.store([Part(tagged.segments, tagged.size)])
        if instance.sop_instance_uid not in answer.stored:
            raise TransferError(f"the archive does not take instance {instance.sop_instance_uid}")

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


def _owner(file: IO[bytes]) -> str | None:
    file.seek(0)
    header = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_READ))
    return written_owner(header.to_json_dict(suppress_invalid_tags=True))
