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


class Seal:
    """Makes text of values, and values of such text again; to all others it says nothing.

    Args:
        name: what the key is made for, so that nothing that is sealed can stand for something else.
        secret: the OIDC client's; every process of the gateway makes the same key of it.
    """

    def __init__(self, name: str, secret: SecretStr) -> None:
        derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=name.encode()).derive(
            secret.get_secret_value().encode()
        )
        self._key = OctKey.import_key(derived)

    def close(self, values: dict[str, Any], now: datetime, seconds: int) -> str:
        """The text, good for so long."""
        text = json.dumps(values | {"until": int(now.timestamp()) + seconds}).encode()
        return jwe.encrypt_compact(_HEADER, text, self._key, algorithms=list(_HEADER.values()))

    def open(self, text: str, now: datetime) -> dict[str, Any] | None:
        """What is in it; None when it is not ours or too old."""
        try:
            opened = jwe.decrypt_compact(text, self._key, algorithms=list(_HEADER.values())).plaintext
            values = json.loads(opened or b"")
        except (JoseError, ValueError, TypeError):
            return None
        return values if isinstance(values, dict) and values.get("until", 0) > now.timestamp() else None


class SealedCookie:
    """One cookie of a fixed name, path and SameSite; always HttpOnly and Secure.

    A browser that is closed forgets it, and what is in it ends by itself.

    Args:
        name: of the cookie, and what its seal is made for.
        path: requests at and below it bear the cookie.
        same_site: "Strict" or "Lax".
        secret: the OIDC client's.
    """

    def __init__(self, name: str, path: str, same_site: str, secret: SecretStr) -> None:
        self.name = name
        self._path = path
        self._same_site = same_site
        self._seal = Seal(name, secret)

    def seal(self, values: dict[str, Any], now: datetime, seconds: int) -> str:
        """The cookie's value, good for so long.

        Raises:
            CookieTooLargeError: it would be dropped.
        """
        value = self._seal.close(values, now, seconds)
        if len(self.name) + len(value) > COOKIE_MAX:
            raise CookieTooLargeError
        return value

    def open(self, value: str, now: datetime) -> dict[str, Any] | None:
        """What is in it; None when it is not ours or too old."""
        return self._seal.open(value, now) if len(value) <= COOKIE_MAX else None

    def set(self, response: Response, value: str) -> None:
        """Give what was sealed to the browser."""
        response.set_cookie(
            self.name, value, path=self._path, secure=True, httponly=True, samesite=self._same_site
        )

    def delete(self, response: Response) -> None:
        """Take it away again."""
        response.delete_cookie(
            self.name, path=self._path, secure=True, httponly=True, samesite=self._same_site
        )


def session_cookie(secret: SecretStr) -> SealedCookie:
    """Bears a session's tokens; never sent along with what another site starts."""
    return SealedCookie("__Secure-clinicpacs-orthanc", ROOT, "Strict", secret)


def sign_in_cookie(secret: SecretStr) -> SealedCookie:
    """Bears what a sign-in under way needs, to the callback only.

    Lax, because the way back from the issuer counts as another site's where the issuer is one, or where a
    link of another site began it all: a Strict one would be missing then.
    """
    return SealedCookie("__Secure-clinicpacs-orthanc-sign-in", f"{ROOT}/callback", "Lax", secret)
