"""The claims of access and ID tokens, shaped like Keycloak's (TRAPS: header ``typ`` is JWT for both)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from admin.directory import group_path
from demo.issuer.config import ACCESS_TOKEN_SECONDS, IssuerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.issuer.keys import SigningKeys
    from demo.issuer.store import SignedIn


@dataclass(frozen=True)
class Tokens:
    """Makes and reads the issuer's own tokens."""

    config: IssuerConfig
    keys: SigningKeys
    clock: Callable[[], float]

    def access_token(self, signed_in: SignedIn, scope: str, client_id: str) -> str:
        """A token for the gateway."""
        user = signed_in.account.user
        claims = {
            **self._common(signed_in, "Bearer"),
            "aud": self.config.audience,
            "azp": client_id,
            "scope": scope,
            "allowed-origins": [self.config.origin],
            "realm_access": {"roles": sorted(user.roles)},
            **self.profile(signed_in),
        }
        return self.keys.sign(claims)

    def id_claims(self, signed_in: SignedIn) -> dict[str, Any]:
        """The claims of an ID token but for whom it is; Authlib adds that, ``nonce`` and ``at_hash``."""
        return {**self._common(signed_in, "ID"), **self.profile(signed_in)}

    def profile(self, signed_in: SignedIn) -> dict[str, Any]:
        """Who the user is, as userinfo answers it too."""
        user = signed_in.account.user
        return {
            "sub": user.id,
            "preferred_username": user.username,
            "name": user.name,
            "email": user.email,
            "email_verified": True,
            "groups": [group_path(clinic) for clinic in sorted(user.clinics)],
        }

    def read(self, unverified_token: str, typ: str) -> dict[str, Any] | None:
        """The claims of an own token of this type, expired or not; None for anything else."""
        claims = self.keys.verify(unverified_token)
        if claims is None or claims.get("iss") != self.config.issuer or claims.get("typ") != typ:
            return None
        return claims

    def _common(self, signed_in: SignedIn, typ: str) -> dict[str, Any]:
        now = int(self.clock())
        return {
            "exp": now + ACCESS_TOKEN_SECONDS,
            "iat": now,
            "auth_time": int(signed_in.began_at),
            "jti": str(uuid.uuid4()),
            "iss": self.config.issuer,
            "typ": typ,
            "sid": signed_in.session_id,
            "acr": "1",
        }
