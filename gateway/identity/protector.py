"""The seam between a request and the verifier: Authlib's resource protector (RFC 6750)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

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

REALM = "clinicpacs"


class _Validator(BearerTokenValidator):
    """Authlib's own for JWT (RFC 9068) refuses Keycloak's access tokens: their header's `typ` is JWT."""

    def __init__(self, verifier: TokenVerifier) -> None:
        super().__init__(realm=REALM)  # type: ignore[no-untyped-call]
        self._verifier = verifier

    def authenticate_token(self, token_string: str) -> VerifiedClaims:
        try:
            return self._verifier.verify(token_string)
        except InvalidTokenError as error:
            DENIED.labels(error.reason).inc()
            raise OAuthInvalidTokenError(realm=self.realm) from None  # type: ignore[no-untyped-call]

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
        except OAuthInvalidTokenError as error:
            self._refuse(error)
        except OAuth2Error as error:
            DENIED.labels("no-token").inc()
            self._refuse(error)
        except JwksUnavailableError:
            raise Unavailable("The identity provider cannot be reached to check the token.") from None
        if not isinstance(claims, VerifiedClaims):  # what Authlib returns is not typed
            raise TypeError(type(claims))
        return claims

    def _refuse(self, error: OAuth2Error) -> NoReturn:
        # RFC 6750 section 3: without any token no error code is told.
        if isinstance(error, OAuthInvalidTokenError):
            challenge = dict(error.get_headers())["WWW-Authenticate"]  # type: ignore[no-untyped-call]
            detail = "The access token is expired, revoked, malformed or not meant for this service."
        else:
            challenge = f'Bearer realm="{REALM}"'
            detail = "An access token is needed: Authorization: Bearer."
        raise Unauthorized(detail, {"WWW-Authenticate": challenge}) from None
