"""The files that the archive's index names, set down bucket by bucket while a dump is read."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from admin.backup.images import is_uuid

if TYPE_CHECKING:
    from pathlib import Path

    from admin.backup.dump import Attached

_LINES_TOGETHER = 1000


class IndexedFiles:
    """What the archive's index names, in a file for each bucket: there may be more than memory holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[str, list[str]] = {}

    def clear(self) -> None:
        """Forget all; to be called before the first `add`."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def add(self, file: Attached) -> None:
        """One file more.

        Raises:
            ValueError: Orthanc would not name a file so.
        """
        if not is_uuid(file.uuid):
            raise ValueError("unexpected file name in the archive's index")
        lines = self._pending.setdefault(file.uuid[:2], [])
        lines.append(f"{file.uuid} {file.size}\n")
        if len(lines) >= _LINES_TOGETHER:
            self._append(file.uuid[:2])

    def flush(self) -> None:
        """To be called after the last `add`."""
        for bucket in list(self._pending):
            self._append(bucket)

    def _append(self, bucket: str) -> None:
        with (self._folder / bucket).open("a", encoding="ascii") as file:
            file.writelines(self._pending.pop(bucket))

    def read(self, bucket: str) -> dict[str, int]:
        """Size by UUID."""
        try:
            lines = (self._folder / bucket).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return {}
        return {uuid: int(size) for uuid, _, size in (line.partition(" ") for line in lines)}
