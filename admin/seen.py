"""UIDs that came by, however many, in little memory: in a scratch database of this process's own."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pacs.ids import Uid


def scratch_database(cache_kib: int) -> sqlite3.Connection:
    """A database of this process's own, in memory as far as the cache goes."""
    # One without a name SQLite keeps in a file beyond that, and deletes it at the end.
    database = sqlite3.connect("", isolation_level=None)
    for pragma in (f"cache_size = -{cache_kib}", "journal_mode = OFF", "synchronous = OFF"):
        database.execute(f"PRAGMA {pragma}")
    return database


class Seen:
    """A set that is not held in memory."""

    def __init__(self) -> None:
        self._database = scratch_database(cache_kib=8000)
        self._database.execute("CREATE TABLE seen (uid TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, uids: Sequence[Uid]) -> set[Uid]:
        """Those that came for the first time, and once."""
        new = self.without(uids)
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((uid,) for uid in uids))
        self._database.execute("COMMIT")
        return {uid for uid, times in Counter(uids).items() if times == 1 and uid in new}

    def without(self, uids: Iterable[Uid]) -> set[Uid]:
        """Those that never came."""
        ask = "SELECT 1 FROM seen WHERE uid = ?"
        return {uid for uid in uids if self._database.execute(ask, (uid,)).fetchone() is None}

    def close(self) -> None:
        """Forget them."""
        self._database.close()
