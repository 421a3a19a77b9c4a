"""What a signed token must say, and what is taken from it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joserfc.errors import ClaimError
from joserfc.jwt import JWTClaimsRegistry

from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEEWAY_SECONDS = 30
ADMIN_ROLE = "pacs-admin"
CROSS_CLINIC_ROLES = frozenset({ADMIN_ROLE, "radiologist"})
_GROUP = re.compile(r"/clinics/([a-z0-9-]{1,63})")
_SUBJECT_MAX = 255
_REASONS = {"iss": "issuer", "aud": "audience", "exp": "time", "nbf": "time", "iat": "time"}


class InvalidTokenError(Exception):
    """A token that is not taken; `reason` is one of `gateway.metrics.DENIAL_REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the token is not valid: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """What is known of the bearer of a token whose signature and claims were checked.

    Made by `ClaimsPolicy.verify` only. `clinics` are those that the token names: whether the catalog
    has them is for `gateway.access` to say. Times are seconds since the epoch.
    """

    subject: str
    username: str
    clinics: frozenset[ClinicId]
    sees_all: bool
    administers: bool
    issued_at: float
    expires_at: float


@dataclass(frozen=True)
class ClaimsPolicy:
    """Which tokens are taken: by whom they were issued, for whom, and to which clients."""

    issuer: str
    audience: str
    clients: frozenset[str]

    def verify(self, signed_claims: Mapping[str, Any], now: float) -> VerifiedClaims:
        """Judge the claims of a token whose signature is good.

        Raises:
            InvalidTokenError: when one of them is missing or wrong.
        """
        claims = dict(signed_claims)
        registry = JWTClaimsRegistry(
            now=int(now),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(claims)
        except ClaimError as error:
            raise InvalidTokenError(_REASONS.get(error.claim or "", "claims")) from None
        # Keycloak's ID and refresh tokens differ from access tokens in nothing else that is sure.
        if claims.get("typ") != "Bearer":
            raise InvalidTokenError("type")
        azp = claims.get("azp")
        if not isinstance(azp, str) or azp not in self.clients:
            raise InvalidTokenError("client")
        roles = _roles(claims.get("realm_access"))
        return VerifiedClaims(
            subject=_subject(claims["sub"]),
            username=_printable(claims.get("preferred_username")),
            clinics=_clinics(claims.get("groups")),
            sees_all=not CROSS_CLINIC_ROLES.isdisjoint(roles),
            administers=ADMIN_ROLE in roles,
            issued_at=claims["iat"],
            expires_at=claims["exp"],
        )


def _subject(value: object) -> str:
    text = _printable(value)
    if not text or text != value or len(text) > _SUBJECT_MAX:
        raise InvalidTokenError("claims")
    return text


def _printable(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value if unicodedata.category(c)[0] != "C")[:_SUBJECT_MAX]


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _clinics(groups: object) -> frozenset[ClinicId]:
    found = set()
    for group in _texts(groups):
        match = _GROUP.fullmatch(group)
        try:
            found |= {ClinicId(match[1])} if match else set()
        except InvalidClinicIdError:
            continue
    return frozenset(found)


def _roles(realm_access: object) -> list[str]:
    return _texts(realm_access.get("roles")) if isinstance(realm_access, dict) else []
