r"""The connection to the catalog, on SQLite and on PostgreSQL.

CatalogError
├── CatalogUnavailableError   cannot be reached, is locked, full or damaged: wait and try again
└── CatalogVersionError       of a newer version, or not migrated: nothing here helps but a person
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import postgresql, sqlite

from pacs.catalog import monitor
from pacs.catalog.questions import Askers, DisconnectedError, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import SecretStr
    from sqlalchemy import Select, Table

_BUSY_SECONDS = 10
# Statements' parameters are patient data, and would stand in the text of errors.
_OPTIONS: dict[str, Any] = {"hide_parameters": True, "pool_timeout": _BUSY_SECONDS}
_OLDEST_POSTGRESQL = (14,)
_MIGRATION_LOCK = 0x636C_7061_6373  # an arbitrary number that only migrations use


class CatalogError(Exception):
    """Base of what the catalog raises."""


class CatalogUnavailableError(CatalogError):
    """The catalog cannot be used now; nothing was changed."""


class CatalogVersionError(CatalogError):
    """The catalog's schema is not this version's."""


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would commit before DDL and begin too late for a snapshot.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={_BUSY_SECONDS * 1000}",
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


def _create_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(
            parsed,
            **_OPTIONS,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 5,
                # A server that was cut off is noticed, instead of waited for a quarter of an hour.
                "tcp_user_timeout": 10_000,
                "keepalives_idle": 10,
                "options": "-c statement_timeout=60000 -c lock_timeout=10000",
            },
        )
    engine = create_engine(parsed, **_OPTIONS, connect_args={"timeout": _BUSY_SECONDS})
    _prepare_sqlite(engine)
    return engine


class Catalog:
    """Transactions on the catalog. Share one among the threads of a process; open anew after a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._askers = Askers(engine)

    @classmethod
    def open(cls, url: SecretStr) -> Catalog:
        """Connect and check the schema; an SQLite catalog is made or migrated first.

        Raises:
            CatalogUnavailableError: it cannot be reached.
            CatalogVersionError: it is of a newer version, or PostgreSQL and not migrated.
        """
        catalog = cls.connect(url)
        if catalog.is_sqlite:
            _make_private(make_url(url.get_secret_value()).database)
            catalog.migrate()
        catalog.check_version()
        return catalog

    @classmethod
    def connect(cls, url: SecretStr) -> Catalog:
        """A catalog whose schema nobody has looked at yet: for `migrate`.

        Raises:
            CatalogVersionError: the URL is of no database that a catalog can be in.
        """
        try:
            return cls(_create_engine(url.get_secret_value()))
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError, ImportError):
            raise CatalogVersionError("DATABASE_URL is not a URL of SQLite or PostgreSQL") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalog is a file of this machine."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """The catalog as it is now, for as long as the block takes, whatever is written meanwhile."""
        engine = self._engine
        if not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self.translated(), engine.begin() as connection:
            # Neither database looks before the first question.
            connection.execute(text("SELECT 1 FROM clinics LIMIT 1"))
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is durable after the block, or nothing."""
        with self.translated(), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    def question(self, statement: Select[*tuple[Any, ...]]) -> Question:
        """A statement for `ask`, compiled; made once and kept."""
        return Question(statement, self._engine.dialect)

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> Any:
        """The one row of a statement that needs no transaction, because it is one consistent view itself."""
        driver = self._engine.dialect.loaded_dbapi.Error
        with self.translated():
            try:
                return self._askers.ask(question, parameters)
            except DisconnectedError as error:
                raise CatalogUnavailableError(
                    f"the catalog cannot be used: {type(error.__cause__).__name__}"
                ) from None
            except driver as error:
                # As SQLAlchemy does, which is not in between here.
                raise sa_exc.DBAPIError.instance(None, None, error, driver, hide_parameters=True) from None

    def session(self) -> Connection:
        """A connection of one's own outside of transactions, for locks that live as long as it does.

        Use it within `translated`; the caller closes it.
        """
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        return connection

    def migrate(self) -> None:
        """Bring the schema to this version; safe to run by several processes at once.

        On PostgreSQL it also gives the role `monitor` its rights, whatever the version was.

        Raises:
            CatalogVersionError: it is of a newer version.
        """
        config = _alembic()
        scripts = ScriptDirectory.from_config(config)
        with self.read() as connection:
            current = self._revision(connection, scripts) == scripts.get_current_head()
        if current and self.is_sqlite:
            return
        with self.write() as connection:
            if not self.is_sqlite:
                # A migration may take as long as it takes.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _MIGRATION_LOCK})
            self._revision(connection, scripts)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if not self.is_sqlite:
                monitor.grant(connection)

    def close(self) -> None:
        """Drop all connections; also to be called in a forked child before its first use."""
        self._askers.close()
        self._engine.dispose()

    def check_version(self) -> None:
        """Raise CatalogVersionError unless the schema is this version's."""
        scripts = ScriptDirectory.from_config(_alembic())
        with self.read() as connection:
            if not self.is_sqlite and (connection.dialect.server_version_info or ()) < _OLDEST_POSTGRESQL:
                raise CatalogVersionError("the catalog needs PostgreSQL 14 or newer")
            revision = self._revision(connection, scripts)
        if revision != scripts.get_current_head():
            raise CatalogVersionError("the catalog is not migrated to this version: run `clinicpacs migrate`")

    @staticmethod
    def _revision(connection: Connection, scripts: ScriptDirectory) -> str | None:
        revision = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if revision is not None and revision not in known:
            raise CatalogVersionError(
                "the catalog was made by a newer version of clinicpacs: "
                "install that version, or restore a backup"
            )
        return revision

    @staticmethod
    @contextmanager
    def translated() -> Iterator[None]:
        """Turns what the driver says of a catalog that cannot be used into CatalogUnavailableError."""
        try:
            yield
        except (sa_exc.IntegrityError, sa_exc.ProgrammingError, sa_exc.DataError):
            raise
        except (sa_exc.DBAPIError, sa_exc.TimeoutError) as error:
            # Statement and parameters of the original hold patient data: only the driver's kind is told.
            raise CatalogUnavailableError(f"the catalog cannot be used: {_kind(error)}") from None


def _make_private(path: str | None) -> None:
    if not path or path == ":memory:":
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise CatalogUnavailableError(f"the catalog {path}: {error.strerror}") from error


def insert_if_absent(connection: Connection, table: Table, **values: Any) -> bool:
    """One atomic insert; False when the key is taken."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    result = connection.execute(
        dialect.insert(table).values(**values).on_conflict_do_nothing(),
        # Of an INSERT, SQLAlchemy forgets the count otherwise (-1 on PostgreSQL).
        execution_options={"preserve_rowcount": True},
    )
    return result.rowcount > 0


def _kind(error: sa_exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    name = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    return f"{type(original).__name__} {name}" if name else type(original).__name__
