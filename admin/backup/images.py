"""The archive's files in a backup, and back from it.

Orthanc writes a file once, under a random UUID, as `ab/cd/abcd....`, and never changes it; its index names
those that count. So everything can be copied while the archive works, hard links to the copies of the last
backup cost nothing, and what the index says when it is dumped decides: a file that it names is in the
backup, a file that it does not name is not.

In a backup the files lie under `dicom/ab/cd/`, and `dicom/ab.sha256` lists them as sha256sum(1) does. In an
encrypted one `dicom/ab.plain` lists, besides, what each of them is when it is decrypted.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from admin.backup import crypt
from admin.backup.copies import Copy, copy_file, require_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from admin.backup.indexed import IndexedFiles

FOLDER = "dicom"
BUCKETS = tuple(f"{number:02x}" for number in range(256))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PAIR = re.compile(r"[0-9a-f]{2}")
_PLAIN = re.compile(r"([0-9a-f-]{36}) ([0-9]{1,18}) ([0-9a-f]{64})")
_SUM = re.compile(r"([0-9a-f]{64})  ([0-9a-f]{2}/[0-9a-f]{2}/([0-9a-f-]{36}))")
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class Listed(NamedTuple):
    """A file as the lists of a backup have it; `size` is None where it is the stored file's own."""

    size: int | None
    sha256: str
    stored: str


@dataclass(frozen=True)
class Progress:
    """How far a copy is."""

    files: int = 0
    bytes: int = 0
    copied_bytes: int = 0

    def plus(self, size: int, *, copied: bool) -> Progress:
        """One file more."""
        return Progress(self.files + 1, self.bytes + size, self.copied_bytes + (size if copied else 0))


def relative(uuid: str) -> str:
    """Where the archive keeps a file."""
    return f"{uuid[:2]}/{uuid[2:4]}/{uuid}"


def is_uuid(text: str) -> bool:
    """Whether the archive could have given a file this name."""
    return _UUID.fullmatch(text) is not None


def stored(root: Path, bucket: str) -> Iterator[tuple[str, os.stat_result]]:
    """The archive's files whose names begin with `bucket`; everything else below `root` is none of them."""
    for folder in _scan(root / bucket):
        if not (_PAIR.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False)):
            continue
        for entry in _scan(root / bucket / folder.name):
            if is_uuid(entry.name) and entry.name.startswith(bucket + folder.name):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield entry.name, status


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def read_sums(folder: Path, bucket: str) -> dict[str, str]:
    """SHA-256 by UUID, as a backup's `dicom/<bucket>.sha256` says; empty without it.

    Raises:
        ValueError: it is no such list.
    """
    try:
        lines = (folder / f"{bucket}.sha256").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = _SUM.fullmatch(line)
        if not match or match[2] != relative(match[3]) or not match[3].startswith(bucket):
            raise ValueError(f"{bucket}.sha256 contains a malformed line")
        found[match[3]] = match[1]
    return found


def read_lists(folder: Path, bucket: str) -> dict[str, Listed]:
    """What a backup holds, by UUID; empty without a list.

    Raises:
        ValueError: a list is none, or two of them do not agree.
    """
    sums = read_sums(folder, bucket)
    try:
        lines = (folder / f"{bucket}.plain").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {uuid: Listed(None, digest, digest) for uuid, digest in sums.items()}
    plain = {match[1]: match for match in map(_PLAIN.fullmatch, lines) if match}
    if len(plain) != len(lines) or plain.keys() != sums.keys():
        raise ValueError(f"{bucket}.plain does not go with {bucket}.sha256")
    return {uuid: Listed(int(match[2]), match[3], sums[uuid]) for uuid, match in plain.items()}


class ImageCopies:
    """The files of the backup that is being made; `work` keeps what is known of them from step to step.

    `previous` holds files that may be shared: encrypted to the same `keys`, or plain where there are none.
    """

    def __init__(
        self, source: Path, backup: Path, work: Path, previous: Path | None, keys: Sequence[str] = ()
    ) -> None:
        self._source, self._work = source, work / "copied"
        self._keys = keys
        self._coding = crypt.encryption(keys) if keys else shutil.copyfileobj
        self._target = backup / FOLDER
        self._previous = previous / FOLDER if previous else None

    def copy_all(self, tell: Callable[[Progress], None]) -> Progress:
        """Copy or link everything that the archive has now, while it works.

        Raises:
            NoRoomError: the disk has not enough room for it.
            OSError: a file cannot be read or written.
        """
        self._require_room()
        self._work.mkdir(parents=True, exist_ok=True)
        self._target.mkdir(mode=0o700, exist_ok=True)
        progress = Progress()
        for bucket in BUCKETS:
            known = self._known(bucket)
            copies: dict[str, Copy] = {}
            for uuid, status in stored(self._source, bucket):
                linked = self._link(uuid, status, known)
                copy = linked or self._copy(uuid)
                if copy is not None:
                    copies[uuid] = copy
                    progress = progress.plus(copy.size, copied=linked is None)
            self._note(bucket, copies)
            tell(progress)
        return progress

    def _known(self, bucket: str) -> dict[str, Listed]:
        return read_lists(self._previous, bucket) if self._previous else {}

    def _require_room(self) -> None:
        def needed(bucket: str) -> int:
            known = self._known(bucket)
            return sum(file.st_size for uuid, file in stored(self._source, bucket) if uuid not in known)

        require_room(self._target.parent, sum(map(needed, BUCKETS)))

    def _link(self, uuid: str, status: os.stat_result, known: dict[str, Listed]) -> Copy | None:
        if self._previous is None or uuid not in known:
            return None
        before = self._previous / relative(uuid)
        place = self._place(uuid)
        try:
            found = before.stat(follow_symlinks=False)
            size = known[uuid].size if known[uuid].size is not None else found.st_size
            if (size, found.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                return None
            os.link(before, place, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return None
        return Copy(status.st_size, known[uuid].sha256, known[uuid].stored)

    def _place(self, uuid: str) -> Path:
        place = self._target / relative(uuid)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def _copy(self, uuid: str) -> Copy | None:
        try:
            return copy_file(self._source / relative(uuid), self._place(uuid), self._coding)
        except FileNotFoundError:
            return None  # deleted, or replaced by a corrected image, while we copied others

    def agree(self, index: IndexedFiles, tell: Callable[[Progress], None]) -> tuple[Progress, list[str]]:
        """Make the copies those that the index names, no more and no less, and list them.

        Returns:
            What is in the backup, and the UUIDs of what the archive does not have, though its index says so.

        Raises:
            OSError: a file cannot be read or written.
        """
        progress, missing = Progress(), list[str]()
        for bucket in BUCKETS:
            wanted, copies = index.read(bucket), self._noted(bucket)
            for uuid in copies.keys() - wanted.keys():
                self._place(uuid).unlink(missing_ok=True)
                del copies[uuid]
            for uuid, size in wanted.items():
                copy = copies.get(uuid)
                # Copied before, perhaps while it was being written.
                fresh = None if copy and copy.size == size else self._copy(uuid)
                copies.update({uuid: fresh} if fresh else {})
                if uuid in copies and copies[uuid].size == size:
                    progress = progress.plus(size, copied=fresh is not None)
                else:
                    missing.append(uuid)
                    self._place(uuid).unlink(missing_ok=True)
                    copies.pop(uuid, None)
            self._note(bucket, copies)
            self._list(bucket, copies)
            tell(progress)
        return progress, missing

    def _note(self, bucket: str, copies: dict[str, Copy]) -> None:
        lines = [f"{uuid} {copy.size} {copy.sha256} {copy.stored}\n" for uuid, copy in copies.items()]
        (self._work / bucket).write_text("".join(lines), encoding="ascii")

    def _noted(self, bucket: str) -> dict[str, Copy]:
        lines = (self._work / bucket).read_text(encoding="ascii").splitlines()
        return {uuid: Copy(int(size), digest, stored) for uuid, size, digest, stored in map(str.split, lines)}

    def _list(self, bucket: str, copies: dict[str, Copy]) -> None:
        sums = [f"{copies[uuid].stored}  {relative(uuid)}\n" for uuid in sorted(copies)]
        plain = [
            f"{uuid} {copies[uuid].size} {copies[uuid].sha256}\n" for uuid in sorted(copies) if self._keys
        ]
        for name, lines in ((f"{bucket}.sha256", sums), (f"{bucket}.plain", plain)):
            if lines:
                (self._target / name).write_text("".join(lines), encoding="ascii")
            else:
                (self._target / name).unlink(missing_ok=True)
