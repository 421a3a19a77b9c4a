"""Files below a root, reached one folder at a time and never through a symbolic link.

A clinic's staff can rename and replace anything in their inbox at any moment. So a path is never
resolved by the kernel in one go: each component is opened with O_NOFOLLOW relative to the one before,
and what is done then happens in that folder, wherever its name points meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import stat
import uuid
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

LEAVING = ".clinicpacs-leaving-"
"""Prefix of a file on its last step out of a folder; found after a crash, it is a file like any other."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
NAME_MAX = 255

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class NotAPlainPathError(ValueError):
    """A relative path with an empty, `.` or `..` component."""


class NotARegularFileError(OSError):
    """A folder, device, pipe or symbolic link where a file was expected."""


class Identity(NamedTuple):
    """What tells a file from its replacement, and a finished file from one that is written to.

    The time of change is the only one that a writer cannot set back; moving a file changes it, too.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """From a stat."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def was(self, other: Identity) -> bool:
        """Whether it is the other one, moved since."""
        return self[:4] == other[:4]


def is_being_written(descriptor: int) -> bool:
    """Whether somebody has the file, open for reading here, open for writing.

    The kernel grants a read lease only on a file that nobody writes (fcntl(2), F_SETLEASE). It does not
    tell on network shares, nor of files of others without CAP_LEASE: False then.
    """
    try:
        # Whoever opens the file meanwhile breaks the lease: not with SIGIO, which ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def is_mounted(place: Path) -> bool:
    """Whether a folder is in another file system than the one it is found in; False when there is none."""
    try:
        # Opened, because to look at it mounts nothing where an automounter waits (stat(2)).
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_dev != place.parent.stat().st_dev
    except OSError:
        return False
    finally:
        os.close(descriptor)


def split(path: str) -> tuple[str, ...]:
    """The components of a relative path.

    Raises:
        NotAPlainPathError: when it could lead anywhere but down.
    """
    parts = tuple(path.split("/"))
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise NotAPlainPathError("not a plain relative path")
    return parts


def folder(root: Path, parts: Sequence[str]) -> AbstractContextManager[int]:
    """The open descriptor of a folder below `root`; the root itself may be a link, nothing below it."""
    return _descend(root, parts, _enter)


def make_folder(root: Path, parts: Sequence[str]) -> AbstractContextManager[int]:
    """As `folder`; what is missing is made, and on disk before anything is put into it."""
    root.mkdir(parents=True, exist_ok=True)
    return _descend(root, parts, _enter_or_make)


@contextmanager
def _descend(root: Path, parts: Sequence[str], enter: Callable[[int, str], int]) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = enter(descriptor, part)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(folder_fd: int, name: str) -> int:
    return os.open(name, _FOLDER, dir_fd=folder_fd)


def _enter_or_make(folder_fd: int, name: str) -> int:
    try:
        return _enter(folder_fd, name)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder_fd)
        os.fsync(folder_fd)
        return _enter(folder_fd, name)


def remove_empty_folders(root: Path, parts: Sequence[str]) -> None:
    """Remove the folder and those above it as long as they are empty; the first, a clinic's own, stays."""
    for depth in range(len(parts), 1, -1):
        try:
            with folder(root, parts[: depth - 1]) as above:
                os.rmdir(parts[depth - 1], dir_fd=above)
        except OSError:
            return


@contextmanager
def make_folder_beside(
    root: Path, base: Sequence[str], parts: Sequence[str], names: Callable[[str], Iterator[str]]
) -> Iterator[tuple[int, list[str]]]:
    """`make_folder` for `parts` below `base`, where a part whose name a file has gets another of its `names`.

    Yields the open folder and what the parts became.
    """
    made = list(parts)
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(make_folder(root, (*base, *made)))
        except NotADirectoryError:
            made = _beside_files(root, base, parts, names)
            descriptor = stack.enter_context(make_folder(root, (*base, *made)))
        yield descriptor, made


def _beside_files(
    root: Path, base: Sequence[str], parts: Sequence[str], names: Callable[[str], Iterator[str]]
) -> list[str]:
    with make_folder(root, base):
        pass
    made: list[str] = []
    for part in parts:
        for name in names(part):
            with suppress(NotADirectoryError), make_folder(root, (*base, *made, name)):
                made.append(name)
                break
    return made


def open_file(folder_fd: int, name: str) -> tuple[int, Identity]:
    """Open a regular file for reading; never waits for the other end of a pipe.

    Raises:
        NotARegularFileError: it is something else.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder_fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise NotARegularFileError(error.errno, os.strerror(error.errno)) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotARegularFileError(errno.EINVAL, "not a regular file")
    return descriptor, Identity.of(status)


def identity_of(folder_fd: int, name: str) -> Identity | None:
    """What is there under a name now; None when nothing is, or no regular file."""
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Identity.of(status) if stat.S_ISREG(status.st_mode) else None


def exists(folder_fd: int, name: str) -> bool:
    """Whether anything at all is there under a name."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function  # type: ignore[no-any-return]


_RENAMEAT2 = _renameat2()


def rename_noreplace(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Rename within a file system, atomically, and only where nothing is in the way.

    Raises:
        FileExistsError: something is.
        OSError: with EXDEV between file systems; one of `UNSUPPORTED` where the file system, the C library
            or the kernel cannot do this (NFS).
    """
    if _RENAMEAT2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(source), os.fsencode(target)
    if _RENAMEAT2(source_fd, names[0], target_fd, names[1], _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def remove_exactly(folder_fd: int, name: str, identity: Identity) -> bool:
    """Remove a file if it is still that one; False when a stranger has its name, which then stays.

    The name is taken away first and compared then: between a comparison and an unlink of the same name
    another file could slip in, and be lost.
    """
    leaving = f"{LEAVING}{uuid.uuid4().hex}"
    os.rename(name, leaving, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    found = identity_of(folder_fd, leaving)
    if found is not None and found.was(identity):
        os.unlink(leaving, dir_fd=folder_fd)
        return True
    _restore(folder_fd, leaving, name)
    return False


def _restore(folder_fd: int, leaving: str, name: str) -> None:
    try:
        rename_noreplace(folder_fd, leaving, folder_fd, name)
    except OSError as error:
        if error.errno not in {errno.EEXIST, *UNSUPPORTED}:
            raise
        # What stays under the leaving name is imported like any other file.
        with suppress(OSError):
            os.link(leaving, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
            os.unlink(leaving, dir_fd=folder_fd)
