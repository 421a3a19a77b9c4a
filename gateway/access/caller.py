"""From verified claims to a caller whose clinics the catalog knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, true

from pacs.catalog.schema import clinics, revocations
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.identity.claims import VerifiedClaims


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


def refuse_revoked(connection: Connection, claims: VerifiedClaims) -> None:
    """Let nobody go on whose tokens were revoked after this one was issued.

    Raises:
        RevokedError: the token was revoked.
    """
    issued_before = connection.scalar(
        select(revocations.c.issued_before).where(revocations.c.subject == claims.subject)
    )
    if issued_before is not None and claims.issued_at < issued_before.timestamp():
        raise RevokedError


def admit(connection: Connection, claims: VerifiedClaims) -> Caller:
    """The caller of a request; asked anew at each, so that a change here counts at once.

    Raises:
        RevokedError: the token was revoked.
        NoClinicError: there is nothing that the caller could see.
    """
    refuse_revoked(connection, claims)
    active: frozenset[ClinicId] = frozenset()
    if claims.clinics:
        rows = connection.scalars(
            select(clinics.c.id).where(clinics.c.id.in_(sorted(claims.clinics)), clinics.c.active == true())
        )
        active = frozenset(ClinicId(row) for row in rows)
    if not active and not claims.sees_all:
        raise NoClinicError
    return Caller(claims.subject, claims.username, active, claims.sees_all)
