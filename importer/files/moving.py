"""One file from one folder to another: nothing overwritten, nothing lost, no stranger taken along.

MoveError
├── StrangerError   another file has the name meanwhile: it stays, or was put back
└── GoneError       nothing has the name any more

A rename that refuses to replace is tried first. Where the file system cannot do that (NFS) a hard link
is; across file systems, and where there are no hard links, the file is copied: temporary name, fsync,
rename, and only then the source is removed. After a crash at any point the file is in one of the two
folders, or whole in both.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from importer.files.names import candidates
from importer.files.scratch import temporary_file
from importer.files.tree import (
    UNSUPPORTED,
    Identity,
    exists,
    folder,
    identity_of,
    make_folder_beside,
    open_file,
    remove_empty_folders,
    remove_exactly,
    rename_noreplace,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pacs.ids import ClinicId

_CHUNK = 1 << 20
_NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK}


class MoveError(Exception):
    """Base of what a move may find instead of the file."""


class StrangerError(MoveError):
    """Another file has the name of the one that should be moved."""


class GoneError(MoveError):
    """The file is no longer there."""


class Spot(NamedTuple):
    """A file in an open folder; `identity` is what it must be."""

    folder_fd: int
    name: str
    identity: Identity


def _announce_nothing(_name: str, _identity: Identity) -> bool:
    return True


def _withdraw_nothing(_name: str) -> None:
    return


class Target(NamedTuple):
    """Where a file is to go.

    Attributes:
        folder_fd: the open folder.
        names: in the order of preference.
        root: of the tree, and
        clinic_id: the folder below it that may hold temporary files.
        announce: called before the file is visible under a name, with what it will be there; False when it
            cannot have that name.
        withdraw: called when it did not get the announced name after all.
    """

    folder_fd: int
    names: Callable[[], Iterator[str]]
    root: Path
    clinic_id: ClinicId
    announce: Callable[[str, Identity], bool] = _announce_nothing
    withdraw: Callable[[str], None] = _withdraw_nothing


def move(source: Spot, target: Target) -> str:
    """Move a file; returns the name that it got.

    Raises:
        StrangerError: the name has another file's contents; that one is in the source folder.
        GoneError: there is no such file.
        OSError: it cannot be moved now; it is where it was.
    """
    _check(source)
    if source.identity.device == os.fstat(target.folder_fd).st_dev:
        try:
            return _first_free(target, source.identity, lambda name: _rename(source, target, name))
        except OSError as error:
            if error.errno not in {errno.EXDEV, *UNSUPPORTED}:
                raise _translated(error) from None
            if error.errno != errno.EXDEV:
                with suppress(_LinksUnsupportedError):
                    return _first_free(target, source.identity, lambda name: _link(source, target, name))
    return _copy(source, target)


def return_to_inbox(
    root: Path, inbox_root: Path, below: tuple[ClinicId, str], path: str, identity: Identity
) -> str:
    """Move a file of failed or processed back to where it was in the clinic's inbox; returns its path there.

    The importer takes it up again after the cooldown. Safe while the importer runs.

    Args:
        root: of the tree that the file is in.
        inbox_root: of the tree that it came from.
        below: the clinic and the day's folder.
        path: below these.
        identity: what the file must be.

    Raises:
        GoneError: it is no longer there.
        StrangerError: it was written to or replaced since it was listed.
        OSError: it cannot be moved.
    """
    clinic_id, day = below
    *above, name = split(path)
    with (
        folder(root, (clinic_id, day, *above)) as source_fd,
        make_folder_beside(inbox_root, (clinic_id,), above, candidates) as (target_fd, beside),
    ):
        target = Target(target_fd, lambda: candidates(name), inbox_root, clinic_id)
        placed = move(Spot(source_fd, name, identity), target)
    remove_empty_folders(root, (clinic_id, day, *above))
    return "/".join((*beside, placed))


class _LinksUnsupportedError(Exception):
    """The file system has no hard links."""


def _translated(error: OSError) -> Exception:
    return GoneError() if isinstance(error, FileNotFoundError) else error


def _check(source: Spot) -> None:
    found = identity_of(source.folder_fd, source.name)
    if found is None:
        raise GoneError
    if found != source.identity:
        raise StrangerError


def _first_free(target: Target, identity: Identity, put: Callable[[str], None]) -> str:
    for name in target.names():
        if not target.announce(name, identity):
            continue
        try:
            put(name)
        except FileExistsError:
            target.withdraw(name)
        except BaseException:
            target.withdraw(name)
            raise
        else:
            return name
    raise AssertionError("names are never used up")


def _rename(source: Spot, target: Target, name: str) -> None:
    rename_noreplace(source.folder_fd, source.name, target.folder_fd, name)
    found = identity_of(target.folder_fd, name)
    if found is not None and found.was(source.identity):
        return
    if found is None:
        raise GoneError
    for old_name in candidates(source.name):
        with suppress(FileExistsError):
            rename_noreplace(target.folder_fd, name, source.folder_fd, old_name)
            break
    raise StrangerError


def _link(source: Spot, target: Target, name: str) -> None:
    try:
        os.link(
            source.name,
            name,
            src_dir_fd=source.folder_fd,
            dst_dir_fd=target.folder_fd,
            follow_symlinks=False,
        )
    except FileNotFoundError:
        raise GoneError from None
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _LinksUnsupportedError from None
        raise
    found = identity_of(target.folder_fd, name)
    if found is None or not found.was(source.identity):
        os.unlink(name, dir_fd=target.folder_fd)
        raise StrangerError
    os.fsync(target.folder_fd)
    _leave(source, target, name)


def _leave(source: Spot, target: Target, name: str) -> None:
    """The file is in its new place: take it away from the old one, unless a stranger is there already.

    Raises:
        OSError: it cannot be taken away, as from a folder with the sticky bit. It was taken back from the
            new place then, where each attempt would leave another copy.
    """
    try:
        with suppress(FileNotFoundError):
            remove_exactly(source.folder_fd, source.name, source.identity)
    except OSError:
        found = identity_of(source.folder_fd, source.name)
        if found is not None and found.was(source.identity):
            os.unlink(name, dir_fd=target.folder_fd)
            target.withdraw(name)
        raise


def _copy(source: Spot, target: Target) -> str:
    with temporary_file(target.root, target.clinic_id) as (file, scratch_fd, temporary):
        identity = _copy_bytes(source, file)
        name = _first_free(
            target, identity, lambda name: _publish(scratch_fd, temporary, target.folder_fd, name)
        )
    os.fsync(target.folder_fd)
    _leave(source, target, name)
    return name


def _copy_bytes(source: Spot, copy: BinaryIO) -> Identity:
    try:
        reading, found = open_file(source.folder_fd, source.name)
    except FileNotFoundError:
        raise GoneError from None
    try:
        if found != source.identity:
            raise StrangerError
        while chunk := os.read(reading, _CHUNK):
            copy.write(chunk)
        copy.flush()
        status = os.fstat(reading)
        if Identity.of(status) != source.identity:
            raise StrangerError
        with suppress(PermissionError):  # of file systems that keep no modes
            os.fchmod(copy.fileno(), stat.S_IMODE(status.st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
        os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(copy.fileno())
        return Identity.of(os.fstat(copy.fileno()))
    finally:
        os.close(reading)


def _publish(scratch_fd: int, temporary: str, target_fd: int, name: str) -> None:
    try:
        rename_noreplace(scratch_fd, temporary, target_fd, name)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _publish_without_renameat2(scratch_fd, temporary, target_fd, name)


def _publish_without_renameat2(scratch_fd: int, temporary: str, target_fd: int, name: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=scratch_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(temporary, dir_fd=scratch_fd)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Nothing but the holder of the clinic's lock puts files into this tree.
        if exists(target_fd, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(temporary, name, src_dir_fd=scratch_fd, dst_dir_fd=target_fd)
