"""Statements that are asked thousands of times a minute: compiled once, on connections of their own.

Each is one consistent view, as of now. Compared with `Catalog.read` there is no transaction around it, no
test of the connection before it and no SQLAlchemy in between: these cost several times the statement.
"""

from __future__ import annotations

from collections import deque, namedtuple
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Dialect, Engine, Select
    from sqlalchemy.pool import PoolProxiedConnection

_IDLE_MAX = 16
# What PostgreSQL would guess of a table that nobody has analysed, or of parameters it does not see, is no
# reason to read all of it, or to sort what an index has in order.
_PLANNED = "SET enable_seqscan = off; SET enable_sort = off; SET jit = off"


class PreparedQuery:
    """A statement for one row, as a dialect's driver takes it; all its parameters are named.

    Parameters and columns are converted as SQLAlchemy would, by their types.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._order = compiled.positiontup
        self._to_driver = {
            name: convert
            for name, bound in compiled.binds.items()
            if (convert := bound.type.dialect_impl(dialect).bind_processor(dialect))
        }
        columns = list(statement.selected_columns)
        self._row = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]  # noqa: PYI024
        self._from_driver = [
            (number, convert)
            for number, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """The parameters for the driver."""
        made = dict(given)
        for name, convert in self._to_driver.items():
            made[name] = convert(made[name])
        return made if self._order is None else [made[name] for name in self._order]

    def row(self, fetched: tuple[Any, ...]) -> Any:
        """The answer, its columns by their names."""
        values = list(fetched)
        for number, convert in self._from_driver:
            values[number] = convert(values[number])
        return self._row(*values)


class DisconnectedError(Exception):
    """The connection is gone; its cause is what the driver said."""


class _Open(NamedTuple):
    connection: PoolProxiedConnection
    cursor: Any


class ReadConnections:
    """As many connections as there are questions at once; `_IDLE_MAX` of them are kept. Threads share one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[_Open] = deque()

    def ask(self, query: PreparedQuery, given: Mapping[str, Any]) -> Any:
        """The one row.

        Raises:
            DisconnectedError: the server cannot be reached; all else is raised as the driver does.
        """
        (row,) = self.rows(query.sql, query.parameters(given))
        return query.row(row)

    def rows(self, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement as the driver takes it; raises as `ask`."""
        try:
            asker = self._idle.pop()
        except IndexError:
            return self._fetch(self._connect(), sql, parameters)
        try:
            return self._fetch(asker, sql, parameters)
        except DisconnectedError:
            # The server was restarted since: the other idle connections are as dead.
            self.close()
            return self._fetch(self._connect(), sql, parameters)

    def _connect(self) -> _Open:
        connection = self._engine.raw_connection()
        connection.detach()
        assert connection.dbapi_connection is not None  # noqa: S101 - just opened
        self._engine.dialect.set_isolation_level(connection.dbapi_connection, "AUTOCOMMIT")
        cursor = connection.cursor()
        if self._engine.dialect.name == "postgresql":
            cursor.execute(_PLANNED)
        return _Open(connection, cursor)

    def _fetch(self, asker: _Open, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        dialect = self._engine.dialect
        try:
            asker.cursor.execute(sql, parameters)
            fetched: list[tuple[Any, ...]] = asker.cursor.fetchall()
        except dialect.loaded_dbapi.Error as error:
            lost = dialect.is_disconnect(error, asker.connection, asker.cursor)
            _drop(asker)
            if lost:
                raise DisconnectedError from error
            raise
        except BaseException:
            _drop(asker)
            raise
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(asker)
        else:
            _drop(asker)
        return fetched

    def close(self) -> None:
        """Drop the idle connections."""
        with suppress(IndexError):
            while True:
                _drop(self._idle.pop())


def _drop(asker: _Open) -> None:
    # Not by the pool: it would try to end the transaction of a lost one, and log that it cannot.
    assert asker.connection.dbapi_connection is not None  # noqa: S101 - open until now
    asker.connection.dbapi_connection.close()
