"""What ties a browser to the issuer: the session cookie, the form cookie, the headers of every page."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from flask import current_app, g, request

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from demo.issuer.config import IssuerConfig
    from demo.issuer.store import IssuerStore, SignedIn

SESSION_COOKIE = "clinicpacs_session"
FORM_COOKIE = "clinicpacs_form"

# No script at all, and nothing from anywhere else. `same-origin` and not `no-referrer`: the latter makes
# browsers send `Origin: null` with our own forms.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Browser:
    """The browser of the request under way."""

    def __init__(self, config: IssuerConfig, store: IssuerStore) -> None:
        self._config, self._store = config, store

    def signed_in(self) -> SignedIn | None:
        """The live session of its cookie."""
        secret = request.cookies.get(SESSION_COOKIE)
        return self._store.session_of_secret(secret) if secret else None

    def sign_in(self, response: Response, secret: str) -> None:
        """Give it the cookie of a new session; gone when the browser is closed."""
        self._set_cookie(response, SESSION_COOKIE, secret, "Lax")

    def sign_out(self, response: Response) -> None:
        """Take the cookie away."""
        response.delete_cookie(SESSION_COOKIE, path=self._config.path, httponly=True, samesite="Lax")

    def form_token(self) -> str:
        """What our forms carry, to be told from forms of other sites (double submit)."""
        if "form_token" not in g:
            g.form_token = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(32)
        token: str = g.form_token
        return token

    def is_own_form(self) -> bool:
        """Whether the form came from one of our pages in this browser."""
        cookie = request.cookies.get(FORM_COOKIE, "")
        sent = request.form.get("form_token", "")
        # Browsers send Origin with every POST; a client without one has no cookies that could be abused.
        origin = request.headers.get("Origin", self._config.origin)
        same = hmac.compare_digest(cookie.encode(), sent.encode())
        return bool(cookie) and same and origin == self._config.origin

    def finish(self, response: Response) -> Response:
        """Headers of every answer."""
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint == "static":
            response.headers["Cache-Control"] = "max-age=3600"
        else:
            response.headers["Cache-Control"] = "no-store"
        if "form_token" in g and g.form_token != request.cookies.get(FORM_COOKIE):
            self._set_cookie(response, FORM_COOKIE, g.form_token, "Strict")
        return response

    def _set_cookie(self, response: Response, name: str, value: str, same_site: str) -> None:
        response.set_cookie(
            name,
            value,
            path=self._config.path,
            secure=self._config.is_https,
            httponly=True,
            samesite=same_site,
        )


def browser() -> Browser:
    """The one of this application."""
    found: Browser = current_app.extensions["browser"]
    return found
