"""What a database role may not do, as a sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from admin.terminal import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL's SQLSTATE


@contextmanager
def needing_rights(told: str) -> Iterator[None]:
    """Exit 2 with this sentence when PostgreSQL says that the role may not."""
    try:
        yield
    except sa_exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise UnusableError(told) from None
