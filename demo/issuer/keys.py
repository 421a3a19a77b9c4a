"""The issuer's signing key, made once and kept."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

ALGORITHM = "RS256"


class SigningKeys:
    """An RSA key pair in a JSON Web Key Set file that only its owner can read.

    Args:
        path: The file. A missing one is made, complete or not at all.

    Raises:
        OSError: when it can be neither read nor made.
        ValueError: when it holds no private RSA key.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            _create(path)
        path.chmod(0o600)
        key = KeySet.import_key_set(json.loads(path.read_text(encoding="ascii"))).keys[0]
        if not isinstance(key, RSAKey) or not key.is_private or key.kid is None:
            raise ValueError(f"{path} holds no signing key of this issuer: move it away to have one made")
        self._key = key

    @property
    def private(self) -> RSAKey:
        """The key to sign with."""
        return self._key

    @property
    def header(self) -> dict[str, Any]:
        """The header of what is signed: Keycloak's ``typ`` is JWT for access tokens, too."""
        return {"alg": ALGORITHM, "typ": "JWT", "kid": self._key.kid}

    def jwks(self) -> dict[str, Any]:
        """The public part, for everyone who verifies."""
        return {"keys": [self._key.as_dict(private=False, use="sig", alg=ALGORITHM)]}

    def sign(self, claims: dict[str, Any]) -> str:
        """A signed token of these claims."""
        return jwt.encode(self.header, claims, self._key, [ALGORITHM])

    def verify(self, unverified_token: str) -> dict[str, Any] | None:
        """The claims of a token that this issuer signed, expired or not; None for anything else."""
        try:
            return dict(jwt.decode(unverified_token, self._key, algorithms=[ALGORITHM]).claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            return None


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    with os.fdopen(handle, "w", encoding="ascii") as file:
        json.dump({"keys": [key.as_dict(private=True)]}, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(name, path)  # unlike a rename it never replaces the key that another process made meanwhile
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
