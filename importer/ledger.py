"""What was imported, added up for the catalog's `imports`: a row per study folder and outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from pacs.catalog.imports import ImportRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.work import Settlement, WaitingFile
    from pacs.ids import ClinicId, Uid

_LIMIT = 10_000


@dataclass(frozen=True)
class _Key:
    clinic_id: ClinicId
    study_uid: Uid | None
    folder: str
    outcome: str


class Ledger:
    """Rows not yet written. Bounded: while the catalog is away the newest win."""

    def __init__(self) -> None:
        self._rows: dict[_Key, ImportRow] = {}
        self._ready: list[ImportRow] = []
        self._lock = Lock()

    def note(self, file: WaitingFile, settlement: Settlement) -> None:
        """A file was filed."""
        folder = file.path.rpartition("/")[0]
        row = ImportRow(
            file.clinic_id, folder, settlement.known.study_uid, settlement.outcome, 1, file.identity.size
        )
        with self._lock:
            if settlement.outcome == "failed":
                self._ready.append(replace(row, path=file.path, reason=settlement.reason[:64]))
                del self._ready[:-_LIMIT]
                return
            # The files of one study may lie in a folder for each series: theirs is the one above.
            key = _Key(file.clinic_id, row.study_uid, "" if row.study_uid else folder, row.outcome)
            known = self._rows.get(key)
            if known is not None:
                files, size = known.files + 1, known.bytes + row.bytes
                row = replace(known, folder=_common(known.folder, folder), files=files, bytes=size)
            elif len(self._rows) >= _LIMIT:
                self._rows.pop(next(iter(self._rows)))
            self._rows[key] = row

    def take(self, active: Callable[[Uid], bool]) -> list[ImportRow]:
        """The rows to write now, and forget: those of studies that are still being imported wait."""
        with self._lock:
            due = {
                key: row
                for key, row in self._rows.items()
                if row.study_uid is None or not active(row.study_uid)
            }
            for key in due:
                del self._rows[key]
            ready, self._ready = self._ready, []
        return [*due.values(), *ready]

    def put_back(self, rows: list[ImportRow]) -> None:
        """Rows that were taken and could not be written."""
        with self._lock:
            room = max(0, _LIMIT - len(self._ready))
            self._ready[:0] = rows[len(rows) - min(len(rows), room) :]


def _common(one: str, other: str) -> str:
    shared = []
    for mine, theirs in zip(one.split("/"), other.split("/"), strict=False):
        if mine != theirs:
            break
        shared.append(mine)
    return "/".join(shared)
