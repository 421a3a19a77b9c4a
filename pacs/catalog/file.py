"""SQLite's file: made once, for its owner alone, and missed when it is gone.

A process that has a file open goes on with it when somebody removes it or puts another in its place. Who
owns a study is then written into a file without a name and lost, and what was revoked since is not seen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event

from pacs.catalog.errors import CatalogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

BUSY_SECONDS = 10


class Identity(NamedTuple):
    """Tells a file from one that has its name now."""

    device: int
    inode: int


class DatabaseFile:
    """The file of an SQLite engine.

    Attributes:
        known: which file the engine's connections are to.
    """

    def __init__(self, engine: Engine) -> None:
        self._path = Path(engine.url.database or "").absolute()
        self.known: Identity | None = None
        self._wal = self._path.with_name(f"{self._path.name}-wal")
        self._known_wal: Identity | None = None
        _prepare(engine, f"{self._path.as_uri()}?mode=rw", self._connected)

    def take_up(self, identity: Identity) -> None:
        """This file is the catalog from now on."""
        self.known = identity
        self._known_wal = _identity(self._wal) if self._wal.exists() else None

    def _connected(self) -> None:
        # Not while another file is looked into: what its `-wal` is not, is still to be told.
        if self.known == self.look():
            self.take_up(self.known)

    def disconnected(self) -> None:
        """No connection is left that would keep the `-wal` what it was."""
        self._known_wal = None

    def make(self) -> None:
        """Make it if it is not there; its patients are nobody else's business.

        Raises:
            CatalogUnavailableError: it cannot be made.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise CatalogUnavailableError(f"the catalog {self._path}: {error.strerror}") from error

    def look(self) -> Identity:
        """Which file has the name now.

        Raises:
            CatalogUnavailableError: none has, or nobody can tell.
        """
        try:
            return _identity(self._path)
        except OSError as error:
            raise CatalogUnavailableError(f"the catalog {self._path}: {error.strerror}") from None

    def refuse_doubtful(self, now: Identity) -> None:
        """Let nobody use a new file together with what was written to the old one.

        SQLite takes the `-wal` beside a file for the file's own: both would be damaged for good (measured).
        Another `-wal` than the one that our connections hold open came with the new file.
        On another disk the two belong together, but whoever closes the old ones last would remove the new
        `-wal`: SQLite does so by its name, and tells files apart by their inode alone.

        Raises:
            CatalogUnavailableError: there is one, and it is not empty; or the file is on another disk.
        """
        if self.known and now.device != self.known.device:
            raise CatalogUnavailableError(
                f"the catalog {self._path} is on another disk than before: stop all services, and start them "
                "again"
            )
        if not self._wal.exists() or not self._wal.stat().st_size:
            return
        if self._known_wal in {None, _identity(self._wal)}:
            raise CatalogUnavailableError(
                f"the catalog {self._path} was exchanged, and its -wal and -shm belong to the old one: stop "
                "the services, move these two away, and start again"
            )


def _identity(path: Path) -> Identity:
    status = os.stat(path)  # noqa: PTH116 - asked before every statement, and cheaper
    return Identity(status.st_dev, status.st_ino)


def _prepare(engine: Engine, uri: str, connected: Callable[[], None]) -> None:
    @event.listens_for(engine, "do_connect")
    def not_make(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        # By its name alone SQLite would make an empty file where none is.
        arguments[0], options["uri"] = uri, True

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would commit before DDL and begin too late for a snapshot.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_SECONDS * 1000}",
            "journal_mode=WAL",
            # A reservation that a power cut forgets would let a second clinic own the study.
            "synchronous=FULL",
            "foreign_keys=ON",
            "case_sensitive_like=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        # Whoever reads first opens the `-wal`, and makes it where none is.
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        connected()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        # Upgrading a read lock later fails at once instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
