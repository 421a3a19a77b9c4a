"""Authlib's authorization server with the issuer's client, grants and tokens."""

# mypy: disallow-untyped-calls=False
# Authlib has no types of its own.

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from authlib.integrations.flask_oauth2.authorization_server import AuthorizationServer
from authlib.oauth2.rfc6749 import (
    ClientMixin,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Payload,
    OAuth2Request,
    grants,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode
from flask import request as flask_request

from demo.issuer.config import ACCESS_TOKEN_SECONDS, SCOPE, ClientConfig, IssuerConfig
from demo.issuer.keys import ALGORITHM

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey
    from werkzeug.datastructures import MultiDict

    from demo.issuer.store import Code, IssuerStore, RefreshToken, SignedIn
    from demo.issuer.tokens import Tokens


class Client(ClientMixin):
    """The viewer, without a secret, or the gateway's Explorer with one; codes with PKCE only."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config

    def get_client_id(self) -> str:
        """For Authlib."""
        return self._config.client_id

    def get_default_redirect_uri(self) -> None:
        """None: a request has to name its redirect URI."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Keycloak's default scopes are always granted; without ``openid`` there is nothing to grant."""
        return SCOPE if "openid" in (scope or "").split() else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Compared as a whole, never by its beginning."""
        return redirect_uri in self._config.redirect_uris

    def check_client_secret(self, secret: str) -> bool:
        """A public client has none."""
        known = self._config.secret
        return bool(known) and secrets.compare_digest(known.encode(), secret.encode())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """For Authlib."""
        return method == ("client_secret_basic" if self._config.secret else "none")

    def check_response_type(self, response_type: str) -> bool:
        """For Authlib."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """For Authlib."""
        return grant_type in {"authorization_code", "refresh_token"}


class _Payload(OAuth2Payload):
    """The parameters from where they belong: of the query or of the form, never of both."""

    def __init__(self, data: MultiDict[str, str]) -> None:
        self._data = data

    @property
    def data(self) -> MultiDict[str, str]:
        return self._data

    @property
    def datalist(self) -> dict[str, list[str]]:  # type: ignore[override] # Authlib only reads it
        return self._data.to_dict(flat=False)


class _Request(OAuth2Request):
    payload: Any  # Authlib sets most of a request's attributes later: `Any` where it declares None

    def __init__(self, config: IssuerConfig) -> None:
        # Not the request's own URL: the Host header would decide whether Authlib takes it for secure.
        super().__init__(flask_request.method, config.issuer, headers=flask_request.headers)
        is_token_endpoint = flask_request.path.endswith("/token")
        self.payload = _Payload(flask_request.form if is_token_endpoint else flask_request.args)

    @property
    def form(self) -> MultiDict[str, str]:
        return flask_request.form


class IssuerServer(AuthorizationServer):
    """Authlib's server, with its collaborators at hand for the grants."""

    def __init__(self, config: IssuerConfig, store: IssuerStore, tokens: Tokens) -> None:
        super().__init__()
        self.config, self.store, self.tokens = config, store, tokens
        self.scopes_supported = SCOPE.split()
        self._clients = {name: Client(each) for name, each in config.clients.items()}
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                self._access_token, self._refresh_token, lambda _client, _grant: ACCESS_TOKEN_SECONDS
            ),
        )
        self.register_grant(CodeGrant, [RequiredS256(), IdToken(tokens)])
        self.register_grant(RotatingRefreshGrant, [IdToken(tokens)])

    def query_client(self, client_id: str) -> Client | None:
        """For Authlib."""
        return self._clients.get(client_id)

    def create_oauth2_request(self, _request: Any) -> OAuth2Request:
        """For Authlib: the request under way."""
        return _Request(self.config)

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        """For Authlib: access tokens are not kept, refresh tokens as a hash."""
        grant: Code | RefreshToken = request.authorization_code or request.refresh_token
        self.store.save_refresh_token(token["refresh_token"], grant, request.user.expires_at)

    def _access_token(self, client: Client, user: SignedIn, scope: str, **_: Any) -> str:
        return self.tokens.access_token(user, scope, client.get_client_id())

    @staticmethod
    def _refresh_token(**_: Any) -> str:
        return secrets.token_urlsafe(32)


class RequiredS256(CodeChallenge):
    """PKCE with S256 and nothing less (RFC 9700 section 2.1.1)."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012 - as Authlib declares it

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse a request without a challenge, or with one that is sent in the clear."""
        data = grant.request.payload.data
        if not data.get("code_challenge") or not data.get("code_challenge_method"):
            raise InvalidRequestError("PKCE is required: 'code_challenge' with method S256")
        super().validate_code_challenge(grant, redirect_uri)


class CodeGrant(grants.AuthorizationCodeGrant):
    """Authorization code grant of either client."""

    TOKEN_ENDPOINT_AUTH_METHODS = ["none", "client_secret_basic"]  # noqa: RUF012 - as Authlib declares it

    def save_authorization_code(self, code: str, request: Any) -> None:
        """For Authlib."""
        data = request.payload.data
        self.server.store.save_code(
            code,
            request.user,
            client_id=request.client.get_client_id(),
            redirect_uri=data["redirect_uri"],
            scope=request.scope,
            nonce=data.get("nonce", ""),
            code_challenge=data["code_challenge"],
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """For Authlib: the code is spent by being asked for, whatever becomes of the request."""
        found: Code | None = self.server.store.redeem_code(code, client.get_client_id())
        return found

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """For Authlib: it is spent already, and kept to recognise a replay."""

    def authenticate_user(self, authorization_code: Code) -> SignedIn | None:
        """For Authlib: only while the session goes on."""
        found: SignedIn | None = self.server.store.session(authorization_code.session_id)
        return found


class RotatingRefreshGrant(grants.RefreshTokenGrant):
    """Refresh tokens of a public client are for one use (RFC 9700 section 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ["none", "client_secret_basic"]  # noqa: RUF012 - as Authlib declares it
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """For Authlib."""
        found: RefreshToken | None = self.server.store.refresh_token(refresh_token)
        return found

    def authenticate_user(self, refresh_token: RefreshToken) -> SignedIn:
        """For Authlib: spends the token, if its session goes on.

        Raises:
            InvalidGrantError: the session is over, or another request was faster with the same token.
        """
        signed_in: SignedIn | None = self.server.store.session(refresh_token.session_id)
        if signed_in is None or not self.server.store.use_refresh_token(refresh_token):
            raise InvalidGrantError("The session is over.")
        return signed_in

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """For Authlib: it is spent already, and kept to recognise a replay."""


class IdToken(OpenIDCode):
    """ID tokens, with every grant (Keycloak sends a new one with each refresh, too)."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def exists_nonce(self, _nonce: str, _request: OAuth2Request) -> bool:
        """For Authlib: a nonce is the client's to check (OpenID Connect Core section 3.1.3.7, 11)."""
        return False

    def resolve_client_private_key(self, _client: Client) -> RSAKey:
        """For Authlib."""
        return self._tokens.keys.private

    def get_client_algorithm(self, _client: Client) -> str:
        """For Authlib."""
        return ALGORITHM

    def get_encode_header(self, _client: Client) -> dict[str, Any]:
        """For Authlib."""
        return self._tokens.keys.header

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        """For Authlib: whom the token is made for."""
        return {"aud": client.get_client_id(), "azp": client.get_client_id()}

    def generate_user_info(self, user: SignedIn, _scope: str) -> dict[str, Any]:
        """For Authlib: the other claims but ``nonce`` and ``at_hash``."""
        return self._tokens.id_claims(user)
