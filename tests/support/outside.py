"""What lies around the trees of the importer, and must lie there afterwards as it did."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def lay_out(folder: Path) -> Path:
    """Files and folders that names with `..` and links in the inbox could lead to."""
    for path in ("etc/passwd", "studies/IM0001.dcm", "empty/.keep", "IM0001.dcm"):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"outside " + path.encode())
        os.utime(place, ns=(10**18, 10**18))
    return folder


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Each path below with its kind, rights, owner, size, time of modification and digest."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(base, name)  # noqa: PTH118 - faster, and of many
            status = os.lstat(path)
            digest = ""
            if name in files:
                with open(path, "rb") as file:  # noqa: PTH123
                    digest = sha256(file.read()).hexdigest()
            kept = (status.st_mode, status.st_uid, status.st_nlink, status.st_size, status.st_mtime_ns)
            found[path] = (*kept, digest)
    return found
