"""One browser and the viewer in it, against a real Keycloak: plain HTTP requests, no JavaScript."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.keycloak import Keycloak

VERIFIER = "v" * 64
# RFC 7636 section 4.2
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
_FORM = re.compile(r"<form\b[^>]*>", re.IGNORECASE)
_ACTION = re.compile(r'\baction="([^"]+)"')


@dataclass
class Browser:
    """Cookies of its own; `client_id` and `callback` are those of the application in it."""

    server: Keycloak
    client_id: str = "ohif-viewer"
    callback: str = "/callback"
    client_secret: str | None = None
    http: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.http.headers["X-Forwarded-Proto"] = "https"
        self.http.verify = self.server.verify

    @property
    def redirect_uri(self) -> str:
        return self.server.public_url + self.callback

    @property
    def authorization(self) -> dict[str, str]:
        """The parameters of a sound authorization request."""
        return {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": "openid",
            "state": "st4te",
            "nonce": "n0nce",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }

    def authorize(self, **changes: str) -> requests.Response:
        """Ask for a code; a parameter set to the empty string is left out."""
        query = {name: value for name, value in {**self.authorization, **changes}.items() if value}
        return self._send("GET", self.server.endpoint("auth"), params=query)

    def submit(self, page: requests.Response, fields: Mapping[str, str]) -> requests.Response:
        """Send the form of a page; redirects within Keycloak are followed."""
        form = _FORM.search(page.text)
        action = _ACTION.search(form[0]) if form else None
        assert action, f"{page.status_code}: no form in {page.text[:500]}"
        where = self.server.inside(unescape(action[1]))
        return self._follow(self._send("POST", where, data=fields))

    def sign_in(self, username: str, password: str, **changes: str) -> requests.Response:
        return self.submit(self.authorize(**changes), {"username": username, "password": password})

    def change_password(self, page: requests.Response, password: str) -> requests.Response:
        return self.submit(page, {"password-new": password, "password-confirm": password})

    def redeem(self, answer: requests.Response, **changes: str) -> requests.Response:
        """Exchange the code that the browser was sent back with."""
        form = {
            "code": code_of(answer, self.redirect_uri),
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
        }
        return self.token(grant_type="authorization_code", **(form | changes))

    def token(self, **form: str) -> requests.Response:
        """A request to the token endpoint, without the browser's cookies."""
        secret = {"client_secret": self.client_secret} if self.client_secret else {}
        return self.server.post_token({"client_id": self.client_id, **secret, **form})

    def tokens(self, username: str, password: str) -> dict[str, Any]:
        """Sign in and redeem the code."""
        return answered(self.redeem(self.sign_in(username, password)))

    def _follow(self, response: requests.Response) -> requests.Response:
        while response.is_redirect and response.headers["Location"].startswith(self.server.issuer):
            where = self.server.inside(response.headers["Location"])
            response = self._send("GET", where)
        return response

    def _send(self, method: str, url: str, **parts: Any) -> requests.Response:
        response = self.http.request(method, url, allow_redirects=False, timeout=30, **parts)
        for cookie in self.http.cookies:
            # The tests speak to Keycloak behind the proxy that ends TLS, and must send them all the same.
            cookie.secure = False
        return response


def random_password() -> str:
    """One that the realm's password policy takes."""
    return secrets.token_urlsafe(18)


def code_of(answer: requests.Response, redirect_uri: str) -> str:
    """The code with which the browser is sent back to the application."""
    assert answer.is_redirect, message_of(answer)
    target = answer.headers["Location"]
    assert target.startswith(f"{redirect_uri}?"), target
    return parse_qs(urlsplit(target).query)["code"][0]


def answered(response: requests.Response) -> dict[str, Any]:
    """The JSON of an answer that must be good."""
    assert response.status_code == 200, response.text
    return dict(response.json())


def message_of(page: requests.Response) -> str:
    """What a page of Keycloak tells the person."""
    found = re.findall(
        r'class="[^"]*(?:alert__title|helper-text__item-text|instruction|error-message)[^"]*"[^>]*>\s*([^<]+)',
        page.text,
    )
    return f"{page.status_code}: {'; '.join(' '.join(unescape(each).split()) for each in found)}"
