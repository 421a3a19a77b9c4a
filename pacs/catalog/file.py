"""SQLite's file: made once, for its owner alone, and missed when it is gone.

A process that has a file open goes on with it when somebody removes it or puts another in its place: who
owns a study is then written into a file without a name and lost, and what was revoked since is not seen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event

from pacs.catalog.errors import CatalogUnavailableError

if TYPE_CHECKING:
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
        _prepare(engine, f"{self._path.as_uri()}?mode=rw")

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
            status = os.stat(self._path)  # noqa: PTH116 - asked before every statement, and cheaper
        except OSError as error:
            raise CatalogUnavailableError(f"the catalog {self._path}: {error.strerror}") from None
        return Identity(status.st_dev, status.st_ino)

    def refuse_leftovers(self) -> None:
        """Let nobody use a new file together with what was written to the old one.

        SQLite takes the `-wal` beside a file for the file's own: both would be damaged for good (measured).

        Raises:
            CatalogUnavailableError: there is one, and it is not empty.
        """
        wal = self._path.with_name(f"{self._path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise CatalogUnavailableError(
                f"the catalog {self._path} was exchanged, and its -wal and -shm belong to the old one: stop "
                "the services, move these two away, and start again"
            )


def _prepare(engine: Engine, uri: str) -> None:
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

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        # Upgrading a read lock later fails at once instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
