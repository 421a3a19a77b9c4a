"""Which files in processed are of one instance: of a million files, in little memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from admin.processed import Place
from admin.seen import scratch_database
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 1000


class Versions:
    """The files that were read, by instance; in a scratch database of this process's own."""

    def __init__(self) -> None:
        self._database = scratch_database(cache_kib=32_000)
        self._database.execute(
            "CREATE TABLE files "
            "(id INTEGER PRIMARY KEY, key BLOB, clinic TEXT, day TEXT, path BLOB, filed INTEGER)"
        )
        self._database.execute("CREATE INDEX by_key ON files (key)")
        self._first: dict[ClinicId, int] = {}
        self.count = 0

    def add(self, key: bytes, place: Place) -> None:
        """Note a file of this instance; all of one clinic before those of the next."""
        self.count += 1
        noted = self._database.execute(
            "INSERT INTO files (key, clinic, day, path, filed) VALUES (?, ?, ?, ?, ?)",
            (key, place.clinic_id, place.day, os.fsencode(place.path), place.filed_ns),
        )
        self._first.setdefault(place.clinic_id, noted.lastrowid or 1)

    def of(self, key: bytes) -> list[Place]:
        """The files of an instance, the last filed last."""
        rows = self._database.execute("SELECT clinic, day, path, filed FROM files WHERE key = ?", (key,))
        return sorted((_place(*row) for row in rows), key=lambda place: place.order)

    def of_clinic(self, clinic_id: ClinicId, before: str = "~") -> Iterator[tuple[bytes, Place]]:
        """A clinic's files of days before one, with their instances, as they were noted."""
        last = self._first.get(clinic_id, 1) - 1
        while True:
            rows = self._database.execute(
                "SELECT id, key, clinic, day, path, filed FROM files WHERE id > ? ORDER BY id LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            for _, key, *place in rows:
                if place[0] != clinic_id:
                    return
                if place[1] < before:
                    yield key, _place(*place)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def close(self) -> None:
        """Forget them."""
        self._database.close()


def _place(clinic: str, day: str, path: bytes, filed: int) -> Place:
    return Place(ClinicId(clinic), day, os.fsdecode(path), filed)
