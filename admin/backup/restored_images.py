"""The archive's files brought back from a backup, and its folder held against its index."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from admin.backup.copies import Coding, copy_file, require_room
from admin.backup.images import BUCKETS, FOLDER, read_lists, relative, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from admin.backup.dump import Attached


@dataclass(frozen=True)
class PutBack:
    """What bringing the archive's files back did.

    Attributes:
        copied: files that were not there, or not as they were backed up.
        kept: files that were there as they should be.
        aside: files that the backup does not know, or damaged ones, moved to `place`.
        place: of those, relative to the archive's folder; empty when there is none.
    """

    copied: int = 0
    kept: int = 0
    aside: int = 0
    place: str = ""


def put_back(
    backup: Path,
    storage: Path,
    aside: str,
    tell: Callable[[PutBack], None],
    coding: Coding = shutil.copyfileobj,
) -> PutBack:
    """Make the archive's folder what it was; what is too much is moved aside, nothing is deleted.

    Safe to repeat after it was interrupted.

    Args:
        backup: a verified one that holds the images.
        storage: the archive's folder, which nobody uses now.
        aside: name of the folder in it for what is too much.
        tell: gets what is done so far.
        coding: what decrypts a file of an encrypted backup.

    Raises:
        NoRoomError: the disk has not enough room.
        OSError: a file cannot be read, written or moved.
        admin.backup.crypt.EncryptionError: a file cannot be decrypted.
    """
    source = backup / FOLDER
    require_room(storage, _lacking(source, storage))
    done = PutBack()
    for bucket in BUCKETS:
        done = _copy_bucket(source, storage, (bucket, aside), done, coding)
        tell(done)
    # Only once all is there that should be.
    for bucket in BUCKETS:
        known = read_lists(source, bucket)
        for uuid in [uuid for uuid, _ in stored(storage, bucket) if uuid not in known]:
            _set_aside(storage, uuid, aside)
            done = replace(done, aside=done.aside + 1, place=aside)
    return done


def _copy_bucket(
    source: Path, storage: Path, names: tuple[str, str], done: PutBack, coding: Coding
) -> PutBack:
    bucket, aside = names
    there = {uuid for uuid, _ in stored(storage, bucket)}
    for uuid, listed in read_lists(source, bucket).items():
        if uuid in there:
            if _digest(storage / relative(uuid)) == listed.sha256:
                done = replace(done, kept=done.kept + 1)
                continue
            _set_aside(storage, uuid, aside)
            done = replace(done, aside=done.aside + 1, place=aside)
        place = storage / relative(uuid)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(source / relative(uuid), place, coding)
        place.chmod(0o600)
        done = replace(done, copied=done.copied + 1)
    return done


def _lacking(source: Path, storage: Path) -> int:
    needed = 0
    for bucket in BUCKETS:
        there = {uuid: status.st_size for uuid, status in stored(storage, bucket)}
        known = read_lists(source, bucket)
        sizes = {
            uuid: known[uuid].size or status.st_size
            for uuid, status in stored(source, bucket)
            if uuid in known
        }
        needed += sum(size for uuid, size in sizes.items() if there.get(uuid) != size)
    return needed


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(storage: Path, uuid: str, aside: str) -> None:
    place = storage / aside / relative(uuid)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (storage / relative(uuid)).rename(place)


@dataclass(frozen=True)
class Agreement:
    """The archive's folder held against its index.

    Attributes:
        right: files that the index names and that are there in their size.
        missing: files that it names and that are not, or not in their size.
        unknown: files that it does not name.
    """

    right: int
    missing: int
    unknown: int


def compare(storage: Path, indexed: Iterable[Attached]) -> Agreement:
    """Hold the archive's folder against its index, by names and sizes."""
    right = missing = 0
    for uuid, size in indexed:
        try:
            found = (storage / relative(uuid)).stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            found = -1
        right, missing = (right + 1, missing) if found == size else (right, missing + 1)
    there = sum(1 for bucket in BUCKETS for _ in stored(storage, bucket))
    return Agreement(right, missing, max(0, there - right))
