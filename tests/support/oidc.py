"""A public OIDC client as the viewer is one, for tests of the issuer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import KeySet
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from demo.issuer import REALM_PATH

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

ORIGIN = "http://127.0.0.1:8800"
CALLBACK = f"{ORIGIN}/callback"
PASSWORD = "demo"
CLINICS = ("northside", "southside")
USERS: dict[str, tuple[list[str], list[str]]] = {
    "nora": (["northside"], []),
    "rita": ([], ["radiologist"]),
    "ada": (["southside", "northside"], ["pacs-admin"]),
}
PROTOCOL = f"{REALM_PATH}/protocol/openid-connect"
VERIFIER = "v" * 64


class Clock:
    """Seconds since 1970 that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OidcClient:
    """One browser and the viewer in it."""

    issuer: Flask
    browser: Client = field(init=False)

    def __post_init__(self) -> None:
        self.browser = self.new_browser()

    def new_browser(self) -> Client:
        """Another browser, with no cookies."""
        return Client(DispatcherMiddleware(self._nothing, {REALM_PATH: self.issuer}))

    @staticmethod
    def _nothing(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"outside of the issuer"]

    @property
    def authorization(self) -> dict[str, str]:
        """The parameters of a sound authorization request."""
        return {
            "client_id": "ohif-viewer",
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid",
            "state": "st4te",
            "nonce": "n0nce",
            "code_challenge": create_s256_code_challenge(VERIFIER),
            "code_challenge_method": "S256",
        }

    def get(self, path: str, **query: str) -> TestResponse:
        return self.browser.get(path, base_url=ORIGIN, query_string=query)

    def post(self, path: str, form: dict[str, str], **headers: str) -> TestResponse:
        return self.browser.post(path, base_url=ORIGIN, data=form, headers=headers)

    def authorize(self, **changes: str) -> TestResponse:
        parameters = {**self.authorization, **changes}
        return self.get(f"{PROTOCOL}/auth", **{name: value for name, value in parameters.items() if value})

    def submit(self, page: TestResponse, **fields: str) -> TestResponse:
        """Fill in and send the form of a page."""
        html = page.get_data(as_text=True)
        action = re.search(r'<form method="post" action="([^"]+)"', html)
        assert action, html
        hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', html))
        return self.post(action[1].replace("&amp;", "&"), {**hidden, **fields}, Origin=ORIGIN)

    def sign_in(self, username: str = "nora", password: str = PASSWORD, **changes: str) -> TestResponse:
        return self.submit(self.authorize(**changes), username=username, password=password)

    def code(self, username: str = "nora") -> str:
        return answer_of(self.sign_in(username))["code"]

    def token(self, **form: str) -> TestResponse:
        return self.post(f"{PROTOCOL}/token", {"client_id": "ohif-viewer", **form})

    def redeem(self, code: str, **changes: str) -> TestResponse:
        form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changes}
        return self.token(grant_type="authorization_code", **form)

    def tokens(self, username: str = "nora") -> dict[str, Any]:
        response = self.redeem(self.code(username))
        assert response.status_code == 200, response.text
        return dict(response.get_json())

    def refresh(self, refresh_token: str, **form: str) -> TestResponse:
        return self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)

    def verified(self, token: str) -> jwt.Token:
        """The token, its signature verified with the issuer's published keys."""
        keys = KeySet.import_key_set(self.get(f"{PROTOCOL}/certs").get_json())
        return jwt.decode(token, keys, algorithms=["RS256"])


def answer_of(response: TestResponse) -> dict[str, str]:
    """The parameters with which the browser is sent back to the viewer."""
    assert response.status_code in {302, 303}, response.get_data(as_text=True)
    assert response.location.startswith(f"{CALLBACK}?"), response.location
    return {name: values[0] for name, values in parse_qs(urlsplit(response.location).query).items()}
