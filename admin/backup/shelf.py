"""The folder that holds the backups: which are complete, which may go.

BACKUP_PATH/
    clinicpacs-20260102T030405Z/            complete: it bears this name only since its last byte is on disk
    clinicpacs-20260103T030405Z.partial/    being made, or left by a run that died
    .removing-clinicpacs-.../               on its way out
    .opened-clinicpacs-.../                 an encrypted one that is being restored, decrypted
    metrics/                                read by node-exporter
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from typing import TYPE_CHECKING, Self

from admin.backup.manifest import Manifest, ManifestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PARTIAL = ".partial"
_REMOVING = ".removing-"
_OPENED = ".opened-"
_FORM = re.compile(r"clinicpacs-[0-9]{8}T[0-9]{6}Z")


class InvalidBackupNameError(ValueError):
    """Not a name that a backup has."""


class BackupName(str):
    """`clinicpacs-` and the UTC time at which it was begun: the order of names is the order of time."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse it.

        Raises:
            InvalidBackupNameError: it is none.
        """
        if not _FORM.fullmatch(text):
            raise InvalidBackupNameError("not the name of a backup, such as clinicpacs-20260102T030405Z")
        return super().__new__(cls, text)


class Shelf:
    """BACKUP_PATH. Whoever changes it holds the scripts' lock."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def partial(self, name: BackupName) -> Path:
        """Where a backup is while it is being made."""
        return self.root / f"{name}{PARTIAL}"

    def place(self, name: BackupName) -> Path:
        """Where it is when it is complete."""
        return self.root / name

    def complete(self) -> list[BackupName]:
        """The complete ones, newest first.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(
            (name for name in self._names() if (self.root / name / Manifest.NAME).is_file()), reverse=True
        )

    def _names(self) -> list[BackupName]:
        return [
            BackupName(entry.name)
            for entry in self.root.iterdir()
            if _FORM.fullmatch(entry.name) and entry.is_dir()
        ]

    def newest_with_images(self, keys: Sequence[str] | None = None) -> BackupName | None:
        """The newest complete one that holds the archive's files; with `keys` of those encrypted to them."""
        return next((name for name in self.complete() if self._has_images(name, keys)), None)

    def _has_images(self, name: BackupName, keys: Sequence[str] | None) -> bool:
        try:
            manifest = Manifest.read(self.place(name))
        except (ManifestError, OSError):
            return False
        return manifest.images is not None and (keys is None or manifest.keys == list(keys))

    def opened(self, name: BackupName) -> Path:
        """Where an encrypted backup is decrypted to for its restore."""
        return self.root / f"{_OPENED}{name}"

    def begin(self, name: BackupName) -> None:
        """Make the folder of a new backup, readable for its owner only.

        Raises:
            FileExistsError: there is one of that name.
        """
        if self.place(name).exists():
            raise FileExistsError(errno.EEXIST, "there is a backup of that name", str(self.place(name)))
        self.partial(name).mkdir(mode=0o700)

    def sweep(self) -> list[str]:
        """Remove what runs that died left behind; their names."""
        left = [
            entry
            for entry in self.root.iterdir()
            if entry.name.startswith((_REMOVING, _OPENED))
            or (entry.name.endswith(PARTIAL) and _FORM.fullmatch(entry.name[: -len(PARTIAL)]))
        ]
        for entry in left:
            shutil.rmtree(entry)
        return sorted(entry.name for entry in left)

    def finish(self, name: BackupName) -> None:
        """Give a backup its name, once all of it is on disk."""
        sync(self.partial(name))
        self.partial(name).rename(self.place(name))
        sync(self.root)

    def prune(self, keep: int) -> list[BackupName]:
        """Remove the oldest complete ones but `keep`, and never the newest that holds images; the removed.

        Raises:
            ValueError: `keep` is less than 1.
        """
        if keep < 1:
            raise ValueError("keep must be at least 1")
        spared = self.newest_with_images()
        removed = [name for name in self.complete()[keep:] if name != spared]
        for name in removed:
            # From the first moment of its removal nobody takes it for a complete one.
            leaving = self.root / f"{_REMOVING}{name}"
            self.place(name).rename(leaving)
            shutil.rmtree(leaving)
        return removed


def sync(folder: Path) -> None:
    """Return when everything written to the file system of this folder is on disk, syncfs(2).

    Raises:
        OSError: something could not be written.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
