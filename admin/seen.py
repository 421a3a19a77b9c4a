"""UIDs that came by, however many, in little memory: in a scratch database of this process's own."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pacs.ids import Uid


class Seen:
    """A set that is not held in memory."""

    def __init__(self) -> None:
        # Without a name SQLite keeps it in memory as far as its cache goes, and deletes its file at the end.
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("cache_size = -8000", "journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {pragma}")
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
