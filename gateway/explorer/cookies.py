"""Cookies that only we can read and make: encrypted by keys that follow from the OIDC client's secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from gateway.explorer.paths import ROOT

if TYPE_CHECKING:
    from datetime import datetime

    from flask import Response
    from pydantic import SecretStr

COOKIE_MAX = 4000
"""Characters of name and value; browsers drop more than 4096 (RFC 6265 section 6.1)."""
_HEADER = {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}
_KEY_BYTES = 32


class CookieTooLargeError(Exception):
    """A value that no browser would keep."""


class SealedCookie:
    """One cookie of a fixed name, path and SameSite; always HttpOnly and Secure.

    Args:
        name: also what the key is made for, so that no cookie can stand for another one.
        path: requests at and below it bear the cookie.
        same_site: "Strict" or "Lax".
        secret: the OIDC client's; every process of the gateway makes the same key of it.
    """

    def __init__(self, name: str, path: str, same_site: str, secret: SecretStr) -> None:
        self.name = name
        self._path = path
        self._same_site = same_site
        derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=name.encode()).derive(
            secret.get_secret_value().encode()
        )
        self._key = OctKey.import_key(derived)

    def set(self, response: Response, values: dict[str, str], now: datetime, seconds: int) -> None:
        """Give it to the browser for so long.

        Raises:
            CookieTooLargeError: it would be dropped.
        """
        text = json.dumps(values | {"until": int(now.timestamp()) + seconds}).encode()
        value = jwe.encrypt_compact(_HEADER, text, self._key, algorithms=list(_HEADER.values()))
        if len(self.name) + len(value) > COOKIE_MAX:
            raise CookieTooLargeError
        response.set_cookie(
            self.name,
            value,
            max_age=seconds,
            path=self._path,
            secure=True,
            httponly=True,
            samesite=self._same_site,
        )

    def open(self, value: str, now: datetime) -> dict[str, Any] | None:
        """What is in it; None when it is not ours or too old."""
        if len(value) > COOKIE_MAX:
            return None
        try:
            opened = jwe.decrypt_compact(value, self._key, algorithms=list(_HEADER.values())).plaintext
            values = json.loads(opened or b"")
        except (JoseError, ValueError, TypeError):
            return None
        return values if isinstance(values, dict) and values.get("until", 0) > now.timestamp() else None

    def delete(self, response: Response) -> None:
        """Take it away again."""
        response.delete_cookie(
            self.name, path=self._path, secure=True, httponly=True, samesite=self._same_site
        )


def session_cookie(secret: SecretStr) -> SealedCookie:
    """Bears the access token; never sent along with what another site starts."""
    return SealedCookie("__Secure-clinicpacs-orthanc", ROOT, "Strict", secret)


def sign_in_cookie(secret: SecretStr) -> SealedCookie:
    """Bears what a sign-in under way needs, to the callback only.

    Lax, because the way back from the issuer counts as another site's where the issuer is one, or where a
    link of another site began it all: a Strict one would be missing then.
    """
    return SealedCookie("__Secure-clinicpacs-orthanc-sign-in", f"{ROOT}/callback", "Lax", secret)
