"""The issuer as a WSGI application, to be mounted at the path of its URL."""

# mypy: disallow-untyped-calls=False
# Authlib has no types of its own.

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749.util import extract_basic_authorization
from flask import Blueprint, Flask, current_app, jsonify, make_response, request
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import HTTPException

from admin.directory import DirectoryUnavailableError
from demo.issuer.browser import Browser
from demo.issuer.config import SCOPE, IssuerConfig
from demo.issuer.keys import ALGORITHM, SigningKeys
from demo.issuer.pages import PageError, error_page, pages
from demo.issuer.server import IssuerServer
from demo.issuer.store import IssuerStore
from demo.issuer.tokens import Tokens
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from werkzeug.wrappers import Response

    from admin.directory.embedded import EmbeddedDirectory

KEYS_FILE = "issuer-keys.json"
_FORM_MAX = 64 * 1024
# Answered to programs: their errors are JSON (RFC 6749 section 5.2), everyone else's are pages.
_JSON_ENDPOINTS = ("/token", "/certs", "/userinfo", "/openid-configuration")

_log = logs.get(__name__)

protocol = Blueprint("protocol", __name__)


def create_issuer(
    config: IssuerConfig,
    directory: EmbeddedDirectory,
    data_path: Path,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """The issuer, to be mounted at ``config.path`` (werkzeug's DispatcherMiddleware).

    Args:
        config: Its URL and the sample users it names.
        directory: The users; `clinicpacs` may change them at any time.
        data_path: Folder that keeps the signing key.
        clock: Seconds since 1970.

    Raises:
        OSError, ValueError: the signing key can be neither read nor made.
    """
    app = Flask(__name__, static_url_path="/resources")
    app.config.update(
        TRUSTED_HOSTS=[urlsplit(config.issuer).hostname],  # or another site's name could point at us
        MAX_CONTENT_LENGTH=_FORM_MAX,
        MAX_FORM_PARTS=50,
    )
    logging.getLogger("authlib").setLevel(logging.INFO)  # its debug lines hold whole tokens
    store = IssuerStore(directory, clock)
    tokens = Tokens(config, SigningKeys(data_path / KEYS_FILE), clock)
    app.extensions["issuer"] = IssuerServer(config, store, tokens)
    app.extensions["directory"] = directory
    app.extensions["browser"] = browser = Browser(config, store)
    app.register_blueprint(pages)
    app.register_blueprint(protocol)
    app.after_request(browser.finish)
    app.register_error_handler(PageError, lambda error: error_page(str(error), 400))
    app.register_error_handler(HTTPException, _http_error)
    for unavailable in (DirectoryUnavailableError, IntegrityError):
        app.register_error_handler(unavailable, _unavailable)
    return app


def _server() -> IssuerServer:
    server: IssuerServer = current_app.extensions["issuer"]
    return server


@protocol.get("/.well-known/openid-configuration")
def discovery() -> Response:
    """OpenID Connect Discovery 1.0 section 4."""
    config = _server().config
    return jsonify(
        issuer=config.issuer,
        authorization_endpoint=config.endpoint("auth"),
        token_endpoint=config.endpoint("token"),
        userinfo_endpoint=config.endpoint("userinfo"),
        end_session_endpoint=config.endpoint("logout"),
        jwks_uri=config.endpoint("certs"),
        scopes_supported=SCOPE.split(),
        response_types_supported=["code"],
        response_modes_supported=["query"],
        grant_types_supported=["authorization_code", "refresh_token"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=[ALGORITHM],
        token_endpoint_auth_methods_supported=sorted(
            {"client_secret_basic" if client.secret else "none" for client in config.clients.values()}
        ),
        code_challenge_methods_supported=["S256"],
        claims_supported=[
            "sub",
            "iss",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "name",
            "preferred_username",
            "email",
        ],
        request_parameter_supported=False,
        request_uri_parameter_supported=False,
    )


@protocol.get("/protocol/openid-connect/certs")
def certs() -> Response:
    """The public keys (RFC 7517)."""
    return jsonify(_server().tokens.keys.jwks())


@protocol.post("/protocol/openid-connect/token")
def token() -> Response:
    """The token endpoint (RFC 6749 section 3.2)."""
    if any(len(values) > 1 for values in request.form.to_dict(flat=False).values()):
        return _oauth_error(400, "invalid_request", "A parameter was sent more than once.")
    try:
        extract_basic_authorization(request.headers)
    except ValueError:
        return _oauth_error(401, "invalid_client", "The client's credentials cannot be read.")
    response: Response = _server().create_token_response()
    return response


@protocol.route("/protocol/openid-connect/userinfo", methods=["GET", "POST"])
def userinfo() -> Response:
    """Who the bearer of an access token is (OpenID Connect Core section 5.3)."""
    scheme, _, unverified_token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not unverified_token:
        response = _oauth_error(401, "invalid_request", "An access token is expected.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    tokens = _server().tokens
    claims = tokens.read(unverified_token.strip(), "Bearer")
    signed_in = _server().store.session(str(claims["sid"])) if claims else None
    if claims is None or signed_in is None or claims["exp"] <= tokens.clock():
        response = _oauth_error(401, "invalid_token", "The access token is not valid, or not any more.")
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        return response
    return jsonify(tokens.profile(signed_in))


def _oauth_error(status: int, error: str, description: str) -> Response:
    return make_response(jsonify(error=error, error_description=description), status)


def _error(status: int, text: str) -> Response:
    if request.path.endswith(_JSON_ENDPOINTS):
        error = "temporarily_unavailable" if status >= 500 else "invalid_request"  # noqa: PLR2004
        return _oauth_error(status, error, text)
    return error_page(text, status)


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    response = _error(status, f"{error.name}.")
    for name, value in error.get_headers():
        if name in {"Allow", "Location"}:
            response.headers[name] = value
    return response


def _unavailable(_error_raised: Any) -> Response:
    _log.error("the identity database cannot be used")
    return _error(503, "Signing in is not possible now. Please try again in a minute.")
