"""Holds a backup against its manifest: every byte, nothing missing, nothing additional."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.script import ScriptDirectory

from admin.backup import images
from admin.backup.manifest import Manifest, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OWN = frozenset({Manifest.NAME, "manifest.sha256"})


def faults(backup: Path, tell: Callable[[int], None] = lambda _files: None) -> Iterator[str]:
    """What is wrong with a backup, a sentence each; nothing when it is as it was made.

    Args:
        backup: its folder.
        tell: gets how many files were read so far.

    Raises:
        ManifestError: the manifest itself is damaged, missing, or of a newer version.
        OSError: something cannot be read.
    """
    manifest = Manifest.read(backup)
    expected = {file.path: file for file in manifest.files}
    for path in sorted(_present(backup) - expected.keys() - _OWN):
        yield f"{path} is additional"
    for path, file in expected.items():
        try:
            found = digest_of(backup / path)
        except FileNotFoundError:
            yield f"{path} is missing"
            continue
        if (found.size, found.sha256) != (file.size, file.sha256):
            yield f"{path} is not as it was backed up"
    if manifest.images is not None:
        yield from _image_faults(backup / images.FOLDER, manifest.images.files, tell)


def _present(backup: Path) -> set[str]:
    """Everything but the images themselves, relative to the backup."""
    found = set()
    for root, folders, files in os.walk(backup):
        folder = Path(root)
        if folder == backup / images.FOLDER:
            folders[:] = [name for name in folders if name not in images.BUCKETS]
        # A link to a folder is as additional as a file.
        links = [name for name in folders if (folder / name).is_symlink()]
        found |= {str((folder / name).relative_to(backup)) for name in (*files, *links)}
    return found


def _image_faults(folder: Path, count: int, tell: Callable[[int], None]) -> Iterator[str]:
    listed = seen = 0
    for bucket in images.BUCKETS:
        try:
            sums = images.read_sums(folder, bucket)
        except ValueError as error:
            yield f"dicom/{error}"
            continue
        listed += len(sums)
        for uuid, _ in images.stored(folder, bucket):
            seen += 1
            expected = sums.pop(uuid, None)
            if expected is None:
                yield f"dicom/{images.relative(uuid)} is additional"
            elif digest_of(folder / images.relative(uuid)).sha256 != expected:
                yield f"dicom/{images.relative(uuid)} is not as it was backed up"
        yield from (f"dicom/{images.relative(uuid)} is missing" for uuid in sums)
        tell(seen)
    if listed != count:
        yield f"{listed} of the archive's {count} files are listed"


def obstacles(manifest: Manifest, postgres: int) -> Iterator[str]:
    """Why a backup cannot be restored into this version; `postgres` is the server's major version."""
    if manifest.catalog_revision not in _known_revisions():
        yield f"its catalog is of the newer clinicpacs {manifest.clinicpacs}: install that version"
    made_by = manifest.postgres // 10000
    if made_by > postgres:
        yield f"it was made by PostgreSQL {made_by}, and this is {postgres}"


def _known_revisions() -> set[str]:
    config = Config()
    config.set_main_option("script_location", "pacs.catalog:migrations")
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
