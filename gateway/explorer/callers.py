"""Who asks for something below /orthanc: by a Bearer token, or by the cookie of a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import request

from gateway.access.caller import RevokedError, refuse_revoked
from gateway.explorer.provider import SignInEnded
from gateway.identity.claims import InvalidTokenError
from gateway.identity.jwks import JwksUnavailableError
from gateway.identity.protector import ISSUER_DOWN
from gateway.metrics import DENIED
from gateway.problems import Forbidden, Unavailable

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.explorer.sessions import Sessions
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.protector import Protector
    from gateway.identity.tokens import TokenVerifier
    from pacs.catalog import Catalog

SAFE_METHODS = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_ADMIN = (
    "The archive's own pages are for administrators of this platform (role pacs-admin). "
    "If you need something from there, please ask your administrator."
)
_CROSS_SITE = (
    "A browser may change something here only from a page of this platform. "
    "Scripts send Authorization: Bearer instead of the cookie."
)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token came with a request, and whether a browser sent it by itself."""

    claims: VerifiedClaims
    by_cookie: bool


class Callers:
    """Knows callers by their tokens, and administrators among them."""

    def __init__(
        self,
        *,
        protector: Protector,
        verifier: TokenVerifier,
        sessions: Sessions | None,
        catalog: Catalog,
        clock: Clock,
        public_url: str,
    ) -> None:
        self._protector = protector
        self._verifier = verifier
        self._sessions = sessions
        self._catalog = catalog
        self._clock = clock
        self._origin = _origin(public_url)

    def bearer(self) -> Bearer:
        """The caller of the current request. An Authorization header counts alone, good or bad.

        Raises:
            Unauthorized: there is no token, or none that is good.
            Unavailable: the issuer's keys cannot be had, or a session cannot be renewed.
            gateway.explorer.provider.BadProvider: the issuer renews a session with what is of no use.
        """
        if self._sessions is None or not self._sessions.is_there or "Authorization" in request.headers:
            return Bearer(self._protector.claims(request), by_cookie=False)
        return Bearer(self._verified(self._sessions.access_token()), by_cookie=True)

    def _verified(self, token: str) -> VerifiedClaims:
        try:
            return self._verifier.verify(token)
        except InvalidTokenError as error:
            DENIED.labels(error.reason).inc()
            raise SignInEnded from None
        except JwksUnavailableError:
            raise Unavailable(ISSUER_DOWN) from None

    def refuse_all_but_administrators(self, claims: VerifiedClaims) -> None:
        """Let only administrators go on whose tokens were not revoked.

        Raises:
            Unauthorized: the token was revoked.
            Forbidden: somebody else's.
            pacs.catalog.CatalogUnavailableError: it cannot be said.
        """
        try:
            with self._catalog.read() as connection:
                refuse_revoked(connection, claims)
        except RevokedError:
            DENIED.labels("revoked").inc()
            raise SignInEnded from None
        if not claims.administers:
            DENIED.labels("not-admin").inc()
            raise Forbidden(_NOT_ADMIN)

    def refuse_other_sites(self, bearer: Bearer) -> None:
        """No other page may use a browser's cookie to change something.

        Every browser sends Origin with a method that is not safe; without one, or with `null`, it is not
        known whose page it was. SameSite=Strict alone would let pages of a sibling domain in.

        Raises:
            Forbidden: it is another page's, or nobody knows.
        """
        if not bearer.by_cookie or request.method in SAFE_METHODS:
            return
        if request.headers.get("Origin") != self._origin:
            DENIED.labels("cross-site").inc()
            raise Forbidden(_CROSS_SITE)


def _origin(url: str) -> str:
    """As browsers write it (RFC 6454 section 6.2): lower case, without a default port."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port and parts.port != _DEFAULT_PORTS.get(parts.scheme) else ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
