"""A connection to PostgreSQL that does not wait for ever for a server that says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import RV, PQGen

ANSWER_SECONDS = 15
"""More than any limit that the server keeps itself (`engine`): as long as it lives, it says so first."""


class BoundedConnection(psycopg.Connection[Any]):
    """Is closed when an answer takes too long.

    A frozen server keeps no time limit of its own, and its kernel goes on acknowledging what is sent to it.
    """

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """For psycopg: what all answers are waited for with."""
        try:
            return super().wait(gen, interval, ANSWER_SECONDS if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def connect(_dialect: Any, _record: Any, arguments: list[Any], named: dict[str, Any]) -> BoundedConnection:
    """For SQLAlchemy's event `do_connect`."""
    return BoundedConnection.connect(*arguments, **named)
