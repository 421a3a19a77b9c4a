"""Who asks for something below /orthanc: by a Bearer token, or by the cookie of a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import request

from gateway.access.caller import RevokedError, refuse_revoked
from gateway.identity.claims import InvalidTokenError
from gateway.identity.jwks import JwksUnavailableError
from gateway.identity.protector import REALM
from gateway.metrics import DENIED
from gateway.problems import Forbidden, Unauthorized, Unavailable

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.explorer.cookies import SealedCookie
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.protector import Protector
    from gateway.identity.tokens import TokenVerifier
    from pacs.catalog import Catalog

SAFE_METHODS = frozenset({"GET", "HEAD"})
TOKEN = "access_token"  # noqa: S105 - the name of a value
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
        cookie: SealedCookie | None,
        catalog: Catalog,
        clock: Clock,
        public_url: str,
    ) -> None:
        self._protector = protector
        self._verifier = verifier
        self._cookie = cookie
        self._catalog = catalog
        self._clock = clock
        self._origin = _origin(public_url)

    def bearer(self) -> Bearer:
        """The caller of the current request. An Authorization header counts alone, good or bad.

        Raises:
            Unauthorized: there is no token, or none that is good.
            Unavailable: the issuer's keys cannot be had.
        """
        sealed = request.cookies.get(self._cookie.name) if self._cookie else None
        if self._cookie is None or not sealed or "Authorization" in request.headers:
            return Bearer(self._protector.claims(request), by_cookie=False)
        values = self._cookie.open(sealed, self._clock.now())
        if values is None:
            DENIED.labels("no-token").inc()
            raise _unauthorized()
        return Bearer(self._verified(values[TOKEN]), by_cookie=True)

    def _verified(self, token: str) -> VerifiedClaims:
        try:
            return self._verifier.verify(token)
        except InvalidTokenError as error:
            DENIED.labels(error.reason).inc()
            raise _unauthorized() from None
        except JwksUnavailableError:
            raise Unavailable("The identity provider cannot be reached to check the token.") from None

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
            raise _unauthorized() from None
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


def _unauthorized() -> Unauthorized:
    return Unauthorized(
        "The sign-in has ended, was revoked, or is not meant for this service.",
        {"WWW-Authenticate": f'Bearer realm="{REALM}", error="invalid_token"'},
    )


def _origin(url: str) -> str:
    """As browsers write it (RFC 6454 section 6.1): lower case, without a default port."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port and parts.port != _DEFAULT_PORTS.get(parts.scheme) else ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
