"""The embedded issuer's database: one small SQLite file that the issuer and the commands share.

Whoever reads it can impersonate every user, so it is readable by its owner only.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy import exc as sa_exc

from admin.directory import DirectoryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
_BUSY_SECONDS = 10

METADATA = MetaData()

CLINICS = Table(
    "clinics",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
)

USERS = Table(
    "users",
    METADATA,
    Column("id", String, primary_key=True),
    Column("username", String, nullable=False, unique=True),
    Column("email", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("password_hash", String, nullable=False),
    Column("must_change_password", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    # Sessions that began before this moment (seconds since 1970) are over.
    Column("sessions_from", Float, nullable=False),
)


def _user_column(*, primary_key: bool = True) -> Column[str]:
    return Column(
        "user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


USER_CLINICS = Table(
    "user_clinics",
    METADATA,
    _user_column(),
    Column("clinic_id", ForeignKey("clinics.id"), primary_key=True),
)

USER_ROLES = Table("user_roles", METADATA, _user_column(), Column("role", String, primary_key=True))

# What follows is the issuer's own. Secrets are kept as SHA-256 only: a copy of the file signs nobody in.
SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", String, primary_key=True),
    Column("secret_hash", String, nullable=False, unique=True),
    _user_column(primary_key=False),
    Column("began_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)


def _session_column() -> Column[str]:
    return Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True)


CODES = Table(
    "codes",
    METADATA,
    Column("code_hash", String, primary_key=True),
    _session_column(),
    Column("client_id", String, nullable=False),
    Column("redirect_uri", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("nonce", String, nullable=False),
    Column("code_challenge", String, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used", Boolean, nullable=False),
)

REFRESH_TOKENS = Table(
    "refresh_tokens",
    METADATA,
    Column("token_hash", String, primary_key=True),
    _session_column(),
    Column("client_id", String, nullable=False),
    Column("scope", String, nullable=False),
    # All tokens that one authorization code led to: a replay of any ends them all.
    Column("family", String, nullable=False, index=True),
    Column("expires_at", Float, nullable=False),
    Column("used", Boolean, nullable=False),
)

FAILED_SIGN_INS = Table(
    "failed_sign_ins",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("username", String, nullable=False, index=True),
    Column("at", Float, nullable=False, index=True),
)


class IdentityDatabase:
    """Transactions on the identity database. Share one among the threads of a process.

    Raises:
        DirectoryUnavailableError: the file cannot be made or opened, or a newer version made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(
            f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS}
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._make_private()
        with self.write() as connection:
            self._migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is durable after the block, or nothing."""
        with self._translated(), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    def close(self) -> None:
        """Drop all connections."""
        self._engine.dispose()

    def _make_private(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)
        except OSError as error:
            raise DirectoryUnavailableError(f"the identity database {self.path}: {error.strerror}") from error

    def _migrate(self, connection: Connection) -> None:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > SCHEMA_VERSION:
            raise DirectoryUnavailableError(
                f"the identity database {self.path} was made by a newer version of clinicpacs"
            )
        METADATA.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa_exc.IntegrityError:
            raise
        except (sa_exc.DBAPIError, sa_exc.TimeoutError) as error:
            # The statement's parameters hold password hashes: only the driver's sentence is told.
            reason = getattr(error, "orig", None) or type(error).__name__
            raise DirectoryUnavailableError(f"the identity database {self.path}: {reason}") from None


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own handling would begin transactions too late
    for pragma in (f"busy_timeout={_BUSY_SECONDS * 1000}", "journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    # Upgrading a read lock later fails at once instead of waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
