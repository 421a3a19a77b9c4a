"""The seam between a request and the verifier: Authlib's resource protector (RFC 6750)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authlib.oauth2 import OAuth2Error, ResourceProtector
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc6750 import InvalidTokenError as OAuthInvalidTokenError

from gateway.identity.claims import InvalidTokenError, VerifiedClaims
from gateway.identity.jwks import JwksUnavailableError
from gateway.metrics import DENIED
from gateway.problems import Unauthorized, Unavailable

if TYPE_CHECKING:
    from werkzeug import Request

    from gateway.identity.tokens import TokenVerifier

ISSUER_DOWN = "The identity provider cannot be reached to check the token."
_NOT_GOOD = "The access token is expired, revoked, malformed or not meant for this service."
_NONE = "An access token is needed: Authorization: Bearer."


class _Validator(BearerTokenValidator):
    """Authlib's own for JWT (RFC 9068) refuses Keycloak's access tokens: their header's `typ` is JWT."""

    def __init__(self, verifier: TokenVerifier) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._verifier = verifier

    def authenticate_token(self, token_string: str) -> VerifiedClaims:
        try:
            return self._verifier.verify(token_string)
        except InvalidTokenError as error:
            DENIED.labels(error.reason).inc()
            raise OAuthInvalidTokenError from None

    def validate_token(self, token: VerifiedClaims, scopes: object, request: object) -> None:
        """Nothing is left to check: `VerifiedClaims` are verified, and no scopes are used."""


class Protector(ResourceProtector):
    """Takes the token from the Authorization header, and from nowhere else."""

    def __init__(self, verifier: TokenVerifier) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.register_token_validator(_Validator(verifier))

    def claims(self, request: Request) -> VerifiedClaims:
        """The caller of a request.

        Raises:
            Unauthorized: there is no token, or none that is good.
            Unavailable: the issuer's keys cannot be had.
        """
        try:
            claims = self.validate_request(None, request)  # type: ignore[no-untyped-call]
        except OAuthInvalidTokenError:
            raise Unauthorized(_NOT_GOOD) from None
        except OAuth2Error:
            DENIED.labels("no-token").inc()
            raise Unauthorized(_NONE, came=False) from None
        except JwksUnavailableError:
            raise Unavailable(ISSUER_DOWN) from None
        if not isinstance(claims, VerifiedClaims):  # what Authlib returns is not typed
            raise TypeError(type(claims))
        return claims
