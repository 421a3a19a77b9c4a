"""From the bytes of a token to `VerifiedClaims`."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError

from gateway.identity.claims import InvalidTokenError, VerifiedClaims
from gateway.metrics import VERIFIED

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

    from gateway.clock import Clock
    from gateway.identity.claims import ClaimsPolicy
    from gateway.identity.jwks import JwksCache

ALGORITHM = "RS256"
TOKEN_MAX = 12_000
"""Characters; a token of Keycloak with a hundred groups has about 5,000."""
CACHE_SECONDS = 30
_CACHE_MAX = 2000
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# The rest of RFC 7515 section 4.1 either names keys of the sender's choice (jku, jwk, x5u, x5c), or changes
# what the signature means (crit, b64).
_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})


@dataclass(frozen=True)
class _Known:
    claims: VerifiedClaims
    kid: str
    key: RSAKey
    until: float


class TokenVerifier:
    """Checks tokens by the issuer's keys and the policy; remembers the good ones for some seconds."""

    def __init__(self, policy: ClaimsPolicy, jwks: JwksCache, clock: Clock) -> None:
        self._policy = policy
        self._jwks = jwks
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, token: str) -> VerifiedClaims:
        """Judge a token.

        Raises:
            InvalidTokenError: it is not taken.
            gateway.identity.jwks.JwksUnavailableError: nothing can be said for want of keys.
        """
        if len(token) > TOKEN_MAX:
            raise InvalidTokenError("too-large")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._recall(digest)
        if known is not None:
            return known
        kid = unverified_kid(token)
        key = self._jwks.key(kid)
        if key is None:
            raise InvalidTokenError("unknown-key")
        now = self._clock.now().timestamp()
        claims = self._policy.verify(signed_claims(token, key), now)
        VERIFIED.inc()
        self._remember(digest, _Known(claims, kid, key, min(now + CACHE_SECONDS, claims.expires_at)))
        return claims

    def _recall(self, digest: bytes) -> VerifiedClaims | None:
        with self._lock:
            known = self._known.get(digest)
        if known is None or self._clock.now().timestamp() >= known.until:
            return None
        # Whoever signed it must still be in the key set; asking also keeps the key set fresh.
        return known.claims if self._jwks.key(known.kid) is known.key else None

    def _remember(self, digest: bytes, known: _Known) -> None:
        with self._lock:
            self._known[digest] = known
            self._known.move_to_end(digest)
            while len(self._known) > _CACHE_MAX:
                self._known.popitem(last=False)


def unverified_kid(token: str) -> str:
    """The id of the key that a token claims to be signed with.

    Raises:
        InvalidTokenError: the token is no JWS in compact form, or its header asks for what is never done.
    """
    if not _COMPACT.fullmatch(token):
        raise InvalidTokenError("malformed")
    try:
        unverified_header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError("malformed") from None
    if not isinstance(unverified_header, dict) or not _HEADERS.issuperset(unverified_header):
        raise InvalidTokenError("header")
    if unverified_header.get("alg") != ALGORITHM:
        raise InvalidTokenError("algorithm")
    kid = unverified_header.get("kid")
    if not isinstance(kid, str):
        raise InvalidTokenError("unknown-key")
    return kid


def signed_claims(token: str, key: RSAKey) -> dict[str, object]:
    """What a token says that was signed by that key; nothing of it is judged yet.

    Raises:
        InvalidTokenError: it was not, or is no JWT.
    """
    try:
        return jwt.decode(token, key, algorithms=[ALGORITHM]).claims
    except BadSignatureError:
        raise InvalidTokenError("signature") from None
    except (JoseError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError("malformed") from None
