"""The connection to the catalog, on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy import exc as sa_exc

from pacs.catalog import roles
from pacs.catalog.errors import CatalogError, CatalogUnavailableError, CatalogVersionError
from pacs.catalog.file import BUSY_SECONDS, DatabaseFile
from pacs.catalog.questions import DisconnectedError, PreparedQuery, ReadConnections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import SecretStr
    from sqlalchemy import Select

    from pacs.catalog.file import Identity

__all__ = ["Catalog", "CatalogError", "CatalogUnavailableError", "CatalogVersionError"]

# Statements' parameters are patient data, and would stand in the text of errors.
_OPTIONS: dict[str, Any] = {"hide_parameters": True, "pool_timeout": BUSY_SECONDS}
_OLDEST_POSTGRESQL = (14,)
# PostgreSQL's SQLSTATE for a missing table, column or schema: as while a restore puts them back.
_NO_SCHEMA = frozenset({"42P01", "42703", "3F000"})
_MIGRATION_LOCK = 0x636C_7061_6373  # an arbitrary number that only migrations use


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _create_engine(url: str, *, bounded: bool) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return create_engine(parsed, **_OPTIONS, connect_args={"timeout": BUSY_SECONDS})
    engine = create_engine(
        parsed,
        **_OPTIONS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            # A server that was cut off is noticed, instead of waited for a quarter of an hour.
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 10,
            "options": f"-c statement_timeout={12 if bounded else 60}s -c lock_timeout=10s",
        },
    )
    if bounded:
        from pacs.catalog.bounded import connect  # noqa: PLC0415 - SQLite needs no driver of PostgreSQL

        event.listen(engine, "do_connect", connect)
    return engine


class Catalog:
    """Transactions on the catalog. Share one among the threads of a process; open anew after a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = ReadConnections(engine)
        self._file = DatabaseFile(engine) if self.is_sqlite else None

    @classmethod
    def open(cls, url: SecretStr, *, bounded: bool = False) -> Catalog:
        """Connect and check the schema; an SQLite catalog is made or migrated first.

        Args:
            url: DATABASE_URL.
            bounded: for requests that somebody waits for: a PostgreSQL that says nothing is soon given up.

        Raises:
            CatalogUnavailableError: it cannot be reached.
            CatalogVersionError: it is of a newer version, or PostgreSQL and not migrated.
        """
        catalog = cls.connect(url, bounded=bounded)
        if catalog.is_sqlite:
            catalog.migrate()
        catalog.check_version()
        return catalog

    @classmethod
    def connect(cls, url: SecretStr, *, bounded: bool = False) -> Catalog:
        """A catalog whose schema nobody has looked at yet: for `migrate`. `bounded`: as for `open`.

        Raises:
            CatalogVersionError: the URL is of no database that a catalog can be in.
        """
        try:
            return cls(_create_engine(url.get_secret_value(), bounded=bounded))
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError, ImportError):
            raise CatalogVersionError("DATABASE_URL is not a URL of SQLite or PostgreSQL") from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalog is a file of this machine."""
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """For several statements. On PostgreSQL each sees its own moment; `snapshot` is one view."""
        with self.translated(), self._same_file(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """The catalog as it is now, for as long as the block takes, whatever is written meanwhile."""
        engine = self._engine
        if not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self.translated(), self._same_file(), engine.begin() as connection:
            # Neither database looks before the first question.
            connection.execute(text("SELECT 1 FROM clinics LIMIT 1"))
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is durable after the block, or nothing."""
        writing = self._engine.execution_options(writes=True)
        with self.translated(), self._same_file(), writing.begin() as connection:
            yield connection

    @contextmanager
    def _same_file(self) -> Iterator[None]:
        before = self._look()
        yield
        if self._look() != before:
            raise CatalogUnavailableError("the catalog's file was exchanged in the middle of a transaction")

    def _look(self) -> Identity | None:
        """Which file the catalog is in, if it is in one; another than before is taken up.

        Raises:
            CatalogUnavailableError: it is gone, or is of another version.
        """
        if self._file is None:
            return None
        if self._file.known is None:
            self._file.make()
        now = self._file.look()
        if self._file.known not in {None, now}:
            self._file.refuse_doubtful(now)
            self._drop_connections()
            # A connection that is in use goes back to where nobody takes it from again.
            self._reading = ReadConnections(self._engine)
            self._check_new_file()
        if self._file.known != now:
            self._file.take_up(now)
        return now

    def _check_new_file(self) -> None:
        with self.translated(), self._engine.begin() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
        if revision != ScriptDirectory.from_config(_alembic()).get_current_head():
            raise CatalogUnavailableError("the catalog's new file is not of this version")

    def prepare(self, statement: Select[*tuple[Any, ...]]) -> PreparedQuery:
        """A statement for `ask`, compiled; made once and kept."""
        return PreparedQuery(statement, self._engine.dialect)

    def ask(self, query: PreparedQuery, parameters: Mapping[str, Any]) -> Any:
        """The one row of a statement that needs no transaction, because it is one consistent view itself."""
        with self._asked():
            return self._reading.ask(query, parameters)

    def rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of a statement that needs no transaction, either.

        Args:
            sql: with a `?` for each value, and no `%`. Databases know a statement again by its text.
            values: as the drivers take them.
        """
        with self._asked():
            return self._reading.rows(sql if self.is_sqlite else sql.replace("?", "%s"), values)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        driver = self._engine.dialect.loaded_dbapi.Error
        with self.translated():
            self._look()
            try:
                yield
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

        On PostgreSQL it also gives the roles that there are their rights, whatever the version was.

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
                roles.grant(connection)

    def close(self) -> None:
        """Drop all connections; also to be called in a forked child before its first use."""
        self._drop_connections()
        if self._file is not None:
            self._file.disconnected()

    def _drop_connections(self) -> None:
        self._reading.close()
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
        except (sa_exc.IntegrityError, sa_exc.ProgrammingError, sa_exc.DataError) as error:
            if getattr(error.orig, "sqlstate", None) not in _NO_SCHEMA:
                raise
            raise CatalogUnavailableError(f"the catalog cannot be used: {_kind(error)}") from None
        except (sa_exc.DBAPIError, sa_exc.TimeoutError) as error:
            # Statement and parameters of the original hold patient data: only the driver's kind is told.
            raise CatalogUnavailableError(f"the catalog cannot be used: {_kind(error)}") from None


def _kind(error: sa_exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    name = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    return f"{type(original).__name__} {name}" if name else type(original).__name__
