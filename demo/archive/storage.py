"""The files of the archive, and how they get there: all of a file or nothing of it, and durably."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from demo.archive.attributes import HEADER_TAGS
from demo.archive.errors import ArchiveInUseError, StorageFullError, UnreadableInstanceError
from demo.archive.index import Index, InstanceEntry, InstanceKey, entry_of
from demo.archive.part10 import read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pacs.ids import Uid

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class ReceivedFile:
    """A file that was received whole and waits under a temporary name."""

    path: Path
    entry: InstanceEntry


class Storage:
    """A folder of DICOM files with their index.

    ``ROOT/instances/STUDY/SERIES/SOP.dcm`` are the files, ``ROOT/incoming`` what is being received,
    ``ROOT/index.db`` the index.

    Args:
        root: the folder; made when it is missing.
        max_bytes: refuse what would take more than this (None: the disk is the limit).
    """

    def __init__(self, root: Path, *, max_bytes: int | None = None) -> None:
        self._files = root / "instances"
        self._incoming = root / "incoming"
        for folder in (self._files, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        self.index = Index(root / "index.db")
        self._commit = threading.Lock()
        self._budget = _Budget(max_bytes, self._paths())

    def prepare(self, *, reindex: bool = False) -> int | None:
        """Sweep what a crash left behind and rebuild the index if it is missing, old or asked for.

        Returns:
            the number of instances indexed, None when the index was good.
        """
        for leftover in self._incoming.iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        if not reindex and self.index.is_complete():
            return None
        return self.index.rebuild(self._entries())

    def path(self, key: InstanceKey) -> Path:
        """Where an instance lies; its UIDs are digits and dots, so the path stays inside."""
        return self._files / key.study / key.series / f"{key.sop}.dcm"

    def receive(self, chunks: Iterable[bytes]) -> ReceivedFile:
        """Write a file as it comes to a temporary name, durably, and read its header.

        Raises:
            UnreadableInstanceError: when it is no DICOM file that can be kept.
            StorageFullError: when there is no room for it.
        """
        descriptor, name = tempfile.mkstemp(dir=self._incoming, suffix=".part")
        path = Path(name)
        try:
            with _full_as_error():
                self._write(descriptor, chunks)
            return ReceivedFile(path, entry_of(read_header(path, HEADER_TAGS)))
        except StorageFullError as error:
            error.entry = _entry_of_beginning(path)
            self._remove(path)
            raise
        except BaseException:
            self._remove(path)
            raise

    def _write(self, descriptor: int, chunks: Iterable[bytes]) -> None:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                self._budget.take(len(chunk))
            file.flush()
            os.fsync(file.fileno())

    def commit(self, received: Sequence[ReceivedFile]) -> None:
        """Put files into place, the later over the earlier of the same UIDs, then index them all.

        Raises:
            StorageFullError: when there is no room for the folders or the index.
        """
        with self._commit, _full_as_error():
            for file in received:
                self._place(file)
            _sync_folders({self.path(file.entry.key).parent for file in received})
            self.index.add(file.entry for file in received)

    def remove(self, study: Uid) -> bool:
        """Remove a study, durably; False when there is none.

        Its files go first, at once, so that no index that is rebuilt finds some of them. A crash before the
        index has followed leaves a study without files, which can be removed again.
        """
        with self._commit:
            known = bool(self.index.instance_keys(study))
            trash = self._incoming / uuid.uuid4().hex
            with suppress(FileNotFoundError):
                (self._files / study).rename(trash)
                _sync(self._files)
            self.index.remove(study)
            if trash.exists():
                self._budget.give_back(sum(path.stat().st_size for path in trash.glob("*/*")))
                shutil.rmtree(trash)
        return known

    def _place(self, file: ReceivedFile) -> None:
        target = self.path(file.entry.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._budget.give_back(target.stat().st_size if target.exists() else 0)
        file.path.replace(target)

    def discard(self, received: Iterable[ReceivedFile]) -> None:
        """Remove files that will not be committed."""
        for file in received:
            self._remove(file.path)

    def _remove(self, received: Path) -> None:
        with suppress(FileNotFoundError):
            size = received.stat().st_size
            received.unlink()
            self._budget.give_back(size)

    def _paths(self) -> Iterator[Path]:
        return self._files.glob("*/*/*.dcm")

    def _entries(self) -> Iterator[InstanceEntry]:
        for path in sorted(self._paths()):
            try:
                yield entry_of(read_header(path, HEADER_TAGS))
            except UnreadableInstanceError as error:
                print(f"archive: {path}: {error}; left out of the index", flush=True)


class _Budget:
    """How many bytes may still be kept; None for as many as the disk takes."""

    def __init__(self, max_bytes: int | None, kept: Iterable[Path]) -> None:
        self._lock = threading.Lock()
        self._left = None if max_bytes is None else max_bytes - sum(path.stat().st_size for path in kept)

    def take(self, size: int) -> None:
        with self._lock:
            if self._left is None:
                return
            self._left -= size
            if self._left < 0:
                raise StorageFullError("the archive's limit is reached")

    def give_back(self, size: int) -> None:
        with self._lock:
            if self._left is not None:
                self._left += size


@contextmanager
def _full_as_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError("no room is left") from error
        raise
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFullError("no room is left for the index") from error
        raise


def _entry_of_beginning(path: Path) -> InstanceEntry | None:
    # The sender can only be told which instance found no room when its UIDs arrived.
    try:
        return entry_of(read_header(path, HEADER_TAGS, whole=False))
    except UnreadableInstanceError:
        return None


def _sync_folders(folders: set[Path]) -> None:
    # Up to ROOT/instances: a folder that is new has to be durable in its parent, too.
    for folder in sorted({above for each in folders for above in (each, each.parent, each.parent.parent)}):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(root: Path) -> IO[str]:
    """Make this process the only one that serves a folder; the lock dies with the returned file.

    Raises:
        ArchiveInUseError: when another one does.
    """
    root.mkdir(parents=True, exist_ok=True)
    file = (root / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ArchiveInUseError(f"another archive serves {root}") from error
    return file
