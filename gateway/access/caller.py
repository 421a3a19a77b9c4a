"""From verified claims to a caller whose clinics the catalog knows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Date, String, bindparam, exists, false, func, literal_column, select, true

from pacs.catalog import sharing
from pacs.catalog.schema import clinics, revocations
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy import ColumnElement, Connection, Select

    from gateway.identity.claims import VerifiedClaims
    from pacs.catalog import Catalog

_STATEMENTS_MAX = 64


class RevokedError(Exception):
    """The token was issued before its bearer's tokens were revoked."""


class NoClinicError(Exception):
    """The bearer belongs to no clinic that is served, and has no role that sees all."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, and for which clinics. `sees_all`: a role that reads across clinics."""

    subject: str
    username: str
    clinics: frozenset[ClinicId]
    sees_all: bool


def served(count: int) -> Select[tuple[str]]:
    """Those of a caller's `count` clinics that are served."""
    named = [bindparam(f"clinic_{number}", type_=String) for number in range(count)]
    return select(clinics.c.id).where(
        clinics.c.id.in_(named) if named else false(), clinics.c.active == true()
    )


def nobody(claims: VerifiedClaims) -> Caller:
    """Who is asking, when nothing may be seen: for the audit trail."""
    return Caller(claims.subject, claims.username, frozenset(), sees_all=False)


_REVOKED_BEFORE = select(revocations.c.issued_before).where(
    revocations.c.subject == bindparam("subject", type_=String)
)


def columns(count: int) -> tuple[ColumnElement[Any], ...]:
    """What is asked of a caller of `count` clinics at each request, so that a change counts at once."""
    # A clinic's id holds no comma. As a bound parameter the comma would be sent with every call.
    listed = func.aggregate_strings(clinics.c.id, literal_column("','"))  # type: ignore[arg-type]
    return (
        _REVOKED_BEFORE.scalar_subquery().label("revoked_before"),
        served(count).with_only_columns(listed).scalar_subquery().label("served"),
    )


def parameters(claims: VerifiedClaims) -> dict[str, Any]:
    """Of a statement with `columns`."""
    named = {f"clinic_{number}": clinic for number, clinic in enumerate(sorted(claims.clinics))}
    return {"subject": claims.subject, **named}


def admitted(claims: VerifiedClaims, row: Any) -> Caller:
    """The caller, by a row with `columns`.

    Raises:
        RevokedError: the token was revoked.
        NoClinicError: there is nothing that the caller could see.
    """
    _check_revoked(claims, row.revoked_before)
    active = frozenset(map(ClinicId, row.served.split(","))) if row.served else frozenset()
    if not active and not claims.sees_all:
        raise NoClinicError
    return Caller(claims.subject, claims.username, active, claims.sees_all)


class TokenCallers:
    """Admits callers to searches; threads share one."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._question = lru_cache(_STATEMENTS_MAX)(lambda count: catalog.prepare(_admission(count)))

    def admit(self, claims: VerifiedClaims, today: date) -> tuple[Caller, bool]:
        """The caller, and whether any study is shared with the caller's clinics; raises as `admitted`."""
        asked = parameters(claims) | {"today": today}
        row = self._catalog.ask(self._question(len(claims.clinics)), asked)
        return admitted(claims, row), row.shared


def _admission(count: int) -> Select[*tuple[Any, ...]]:
    shared = exists().where(sharing.is_open(served(count), bindparam("today", type_=Date)))
    return select(*columns(count), shared.label("shared"))


def refuse_revoked(connection: Connection, claims: VerifiedClaims) -> None:
    """Let nobody go on whose tokens were revoked after this one was issued.

    Raises:
        RevokedError: the token was revoked.
    """
    _check_revoked(claims, connection.scalar(_REVOKED_BEFORE, {"subject": claims.subject}))


def _check_revoked(claims: VerifiedClaims, issued_before: datetime | None) -> None:
    if issued_before is not None and claims.issued_at < issued_before.timestamp():
        raise RevokedError
