"""What a person sees of the issuer: signing in, choosing a password, signing out."""

# mypy: disallow-untyped-calls=False
# Authlib has no types of its own.

from __future__ import annotations

import re
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from flask import Blueprint, current_app, jsonify, make_response, redirect, render_template, request

from admin.directory import InvalidUserError, Username
from admin.directory.passwords import PASSWORD_MAX
from demo.issuer.browser import browser

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from admin.directory.embedded import EmbeddedDirectory
    from demo.issuer.server import IssuerServer
    from demo.issuer.store import SignedIn

pages = Blueprint("pages", __name__)

PARAMETER_MAX = 2000
PASSWORD_MIN = 8
# RFC 6749 appendix A: what a parameter may consist of, and what an error text may repeat of it.
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_QUOTABLE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")
_QUOTED = ("client_id", "redirect_uri", "response_type", "scope", "prompt", "code_challenge_method")
_WRONG = "That user name and password do not match."


class PageError(Exception):
    """A request that is answered with a page that says why, status 400, and never with a redirect."""


def _server() -> IssuerServer:
    server: IssuerServer = current_app.extensions["issuer"]
    return server


def _directory() -> EmbeddedDirectory:
    directory: EmbeddedDirectory = current_app.extensions["directory"]
    return directory


@pages.get("/protocol/openid-connect/auth")
def authorize() -> Response:
    """The authorization endpoint (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1)."""
    signed_in = browser().signed_in()
    return _with_grant(signed_in, lambda grant: _continue(grant, signed_in))


@pages.route("/login-actions/authenticate", methods=["GET", "POST"])
def authenticate() -> Response:
    """The sign-in form; a reload of its answer starts again."""
    if request.method == "GET":
        return redirect(_address("/protocol/openid-connect/auth"), 303)
    return _with_grant(None, _check_sign_in)


@pages.route("/login-actions/change-password", methods=["GET", "POST"])
def change_password() -> Response:
    """The form that replaces a temporary password."""
    signed_in = browser().signed_in()
    if request.method == "GET" or signed_in is None or not signed_in.account.must_change_password:
        return redirect(_address("/protocol/openid-connect/auth"), 303)
    return _with_grant(signed_in, lambda grant: _check_new_password(grant, signed_in))


@pages.route("/protocol/openid-connect/logout", methods=["GET", "POST"])
def logout() -> Response:
    """The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0).

    An ID token of this very session needs no questions; without one the person is asked, because any page
    could have sent the browser here. As Keycloak does, it ends a session for an application's refresh token.
    """
    if request.method == "POST" and "refresh_token" in request.form:
        return _end_session_of_refresh_token()
    parameters = request.form if request.method == "POST" else request.args
    _require_printable(parameters.to_dict(flat=False))
    hint = _session_of_hint(parameters.get("id_token_hint"), parameters.get("client_id"))
    target = _post_logout_target(parameters.get("post_logout_redirect_uri"), parameters.get("state"))
    signed_in = browser().signed_in()
    if signed_in is not None and signed_in.session_id != hint and not browser().is_own_form():
        return _page("sign_out.html", user=signed_in.account.user, target=target)
    for session_id in {hint, signed_in.session_id if signed_in else None} - {None}:
        _server().store.end_session(str(session_id))
    response = redirect(target, 302) if target else _page("signed_out.html")
    browser().sign_out(response)
    return response


def _end_session_of_refresh_token() -> Response:
    _require_printable(request.form.to_dict(flat=False))
    client_id = request.form.get("client_id", "")
    client = _server().query_client(client_id)
    if client is None or not client.check_client_secret(request.form.get("client_secret", "")):
        return make_response(jsonify(error="invalid_client"), 401)
    session_id = _server().store.session_of_refresh_token(request.form["refresh_token"], client_id)
    if session_id is None:
        return make_response(jsonify(error="invalid_grant"), 400)
    _server().store.end_session(session_id)
    return make_response("", 204)


def _with_grant(signed_in: SignedIn | None, answer: Any) -> Response:
    """Let Authlib check the authorization request, then answer it.

    Raises:
        PageError: the client or its redirect URI cannot be trusted, so there is nowhere to redirect to.
    """
    _require_printable(request.args.to_dict(flat=False))
    _require_known_client()
    try:
        response: Response = answer(_server().get_consent_grant(end_user=signed_in))
    except OAuth2Error as error:
        if not error.redirect_uri:
            raise PageError(str(error.description or error.error)) from error
        response = _server().handle_error_response(None, error)
    return response


def _continue(grant: Any, signed_in: SignedIn | None) -> Response:
    if signed_in is None or grant.prompt in {"login", "select_account"} or _is_too_old(signed_in):
        return _sign_in_page()
    return _finish(grant, signed_in)


def _finish(grant: Any, signed_in: SignedIn) -> Response:
    if signed_in.account.must_change_password:
        return _password_page(signed_in)
    response: Response = _server().create_authorization_response(grant=grant, grant_user=signed_in)
    return response


def _check_sign_in(grant: Any) -> Response:
    username = request.form.get("username", "").strip().lower()
    if not browser().is_own_form():
        return _sign_in_page("This page was open for too long. Please try again.", username, 400)
    wait = _server().store.begin_sign_in(username) if _is_username(username) else None
    if wait is not None:
        minutes = ceil(wait / 60)
        text = f"Too many attempts for this user name. Try again in {minutes} minute{'s'[: minutes > 1]}."
        response = _sign_in_page(text, username, 429)
        response.headers["Retry-After"] = str(ceil(wait))
        return response
    password = request.form.get("password", "")[:PASSWORD_MAX]
    account = _directory().authenticate(username, password) if password else None
    if account is None:
        return _sign_in_page(_WRONG, username, 403)
    _server().store.sign_in_succeeded(username)
    before = browser().signed_in()
    if before is not None:
        _server().store.end_session(before.session_id)
    signed_in, secret = _server().store.begin_session(account)
    response = _finish(grant, signed_in)
    browser().sign_in(response, secret)
    return response


def _check_new_password(grant: Any, signed_in: SignedIn) -> Response:
    password = request.form.get("password", "")
    if not browser().is_own_form():
        return _password_page(signed_in, "This page was open for too long. Please try again.", 400)
    if len(password) < PASSWORD_MIN or len(password) > PASSWORD_MAX:
        return _password_page(signed_in, f"Use at least {PASSWORD_MIN} characters.", 400)
    if password != request.form.get("repeated"):
        return _password_page(signed_in, "The two entries differ.", 400)
    user = signed_in.account.user
    if _directory().authenticate(user.username, password) is not None:
        return _password_page(signed_in, "Choose another one than the temporary password.", 400)
    _directory().set_password(user.username, password)
    account = _directory().account(user.id)
    if account is None:
        return _sign_in_page(_WRONG, user.username, 403)
    renewed, secret = _server().store.begin_session(account)
    response = _finish(grant, renewed)
    browser().sign_in(response, secret)
    return response


def _sign_in_page(error: str | None = None, username: str | None = None, status: int = 200) -> Response:
    hint = request.args.get("login_hint", "") if username is None else username
    config = _server().config
    samples = [
        (sample, _address("/protocol/openid-connect/auth", login_hint=sample.username))
        for sample in config.samples
    ]
    return _page(
        "sign_in.html",
        status,
        action=_address("/login-actions/authenticate"),
        error=error,
        username=hint if _is_username(hint) else "",
        samples=samples,
    )


def _password_page(signed_in: SignedIn, error: str | None = None, status: int = 200) -> Response:
    action = _address("/login-actions/change-password")
    user = signed_in.account.user
    return _page("change_password.html", status, action=action, error=error, user=user, least=PASSWORD_MIN)


def _page(template: str, status: int = 200, **values: Any) -> Response:
    html = render_template(template, path=_server().config.path, form_token=browser().form_token(), **values)
    return make_response(html, status)


def error_page(text: str, status: int) -> Response:
    """A page with one sentence about what went wrong."""
    return make_response(render_template("error.html", path=_server().config.path, text=text), status)


def _address(path: str, **changes: str) -> str:
    """An own address with the authorization request under way."""
    parameters = [(name, value) for name, value in request.args.items(multi=True) if name not in changes]
    return f"{_server().config.path}{path}?{urlencode([*parameters, *changes.items()])}"


def _require_printable(parameters: dict[str, list[str]]) -> None:
    for name, values in parameters.items():
        limit = 8 * PARAMETER_MAX if name == "id_token_hint" else PARAMETER_MAX
        pattern = _QUOTABLE if name in _QUOTED else _PRINTABLE
        if len(values) != 1:
            raise PageError("A parameter was sent more than once.")
        if len(values[0]) > limit or not pattern.fullmatch(values[0]):
            raise PageError("A parameter is too long or holds characters that have no place there.")


def _require_known_client() -> None:
    client = _server().config.clients.get(request.args.get("client_id", ""))
    if client is None:
        raise PageError("The application that sent you here is not known (client_id).")
    if request.args.get("redirect_uri") not in client.redirect_uris:
        raise PageError("The application wants its answer at an address that is not its own (redirect_uri).")
    if request.args.get("response_mode", "query") != "query":
        raise PageError("Answers are sent in the query only (response_mode).")
    if not request.args.get("max_age", "0").isdecimal():
        raise PageError("max_age is a number of seconds.")


def _is_too_old(signed_in: SignedIn) -> bool:
    max_age = request.args.get("max_age", "")
    if not max_age:
        return False
    return _server().tokens.clock() - signed_in.began_at > int(max_age[:9])


def _is_username(text: str) -> bool:
    try:
        return Username(text) == text
    except InvalidUserError:
        return False


def _session_of_hint(unverified_hint: str | None, client_id: str | None) -> str | None:
    if client_id is not None and client_id not in _server().config.clients:
        raise PageError("The application that sent you here is not known (client_id).")
    if not unverified_hint:
        return None
    claims = _server().tokens.read(unverified_hint, "ID")
    if claims is None:
        raise PageError("The request to sign out names no session of this issuer (id_token_hint).")
    return str(claims["sid"])


def _post_logout_target(uri: str | None, state: str | None) -> str | None:
    if not uri:
        return None
    if not _server().config.allows_post_logout(uri):
        raise PageError("The address to go to after signing out is not this platform's.")
    return str(add_params_to_uri(uri, [("state", state)])) if state else uri
