"""Sessions, authorization codes, refresh tokens and failed sign-ins of the embedded issuer."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import TokenMixin
from authlib.oidc.core import AuthorizationCodeMixin
from sqlalchemy import delete, func, insert, select, update

from admin.directory.identity_db import CODES, FAILED_SIGN_INS, REFRESH_TOKENS, SESSIONS
from demo.issuer.config import CODE_SECONDS, SESSION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, RowMapping

    from admin.directory.embedded import Account, EmbeddedDirectory

GUESSES = 10
GUESS_WINDOW_SECONDS = 5 * 60


@dataclass(frozen=True)
class SignedIn:
    """Who sits before the browser, since when, in which session (``sid``)."""

    account: Account
    session_id: str
    began_at: float
    expires_at: float


@dataclass(frozen=True)
class Code(AuthorizationCodeMixin):
    """An authorization code that was just redeemed."""

    code_hash: str
    session_id: str
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str = "S256"

    @property
    def family(self) -> str:
        """What all refresh tokens of this code share."""
        return self.code_hash

    def get_redirect_uri(self) -> str:
        """For Authlib."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """For Authlib."""
        return self.scope

    def get_nonce(self) -> str:
        """For Authlib."""
        return self.nonce

    def get_auth_time(self) -> None:
        """For Authlib; the claim is set from the session."""


@dataclass(frozen=True)
class RefreshToken(TokenMixin):
    """A refresh token that may be used, unless someone is faster."""

    token_hash: str
    session_id: str
    client_id: str
    scope: str
    family: str

    def check_client(self, client: Any) -> bool:
        """For Authlib."""
        return bool(client.get_client_id() == self.client_id)

    def get_scope(self) -> str:
        """For Authlib."""
        return self.scope


class IssuerStore:
    """What the issuer remembers, in the database of its users.

    Args:
        directory: The users.
        clock: Seconds since 1970.

    Every method raises `DirectoryUnavailableError` when the database cannot be used.
    """

    def __init__(self, directory: EmbeddedDirectory, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._database = directory.database
        self._clock = clock

    def begin_session(self, account: Account) -> tuple[SignedIn, str]:
        """A new session, and the secret for the browser's cookie."""
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        signed_in = SignedIn(account, str(uuid.uuid4()), now, now + SESSION_SECONDS)
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at <= now))
            connection.execute(
                insert(SESSIONS).values(
                    id=signed_in.session_id,
                    secret_hash=digest(secret),
                    user_id=account.user.id,
                    began_at=now,
                    expires_at=signed_in.expires_at,
                )
            )
        return signed_in, secret

    def session_of_secret(self, secret: str) -> SignedIn | None:
        """The live session of a cookie."""
        return self._session(SESSIONS.c.secret_hash == digest(secret))

    def session(self, session_id: str) -> SignedIn | None:
        """The live session of that id."""
        return self._session(SESSIONS.c.id == session_id)

    def end_session(self, session_id: str) -> None:
        """End a session with its codes and refresh tokens."""
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.id == session_id))

    def save_code(self, code: str, signed_in: SignedIn, **values: str) -> None:
        """Remember a code for one minute and one use."""
        row = {
            **values,
            "code_hash": digest(code),
            "session_id": signed_in.session_id,
            "expires_at": self._clock() + CODE_SECONDS,
            "used": False,
        }
        with self._database.write() as connection:
            if _is_live(connection, signed_in.session_id):
                # Used ones stay as long as their session: a replay must be told from a code that never was.
                connection.execute(insert(CODES).values(row))

    def redeem_code(self, code: str, client_id: str) -> Code | None:
        """The code, if it is the client's, fresh, and redeemed for the first time.

        A second time ends all refresh tokens that the first one led to (RFC 6749 section 4.1.2).
        """
        mine = (CODES.c.code_hash == digest(code)) & (CODES.c.client_id == client_id)
        with self._database.write() as connection:
            row = connection.execute(select(CODES).where(mine)).mappings().first()
            if row is None:
                return None
            if row["used"]:
                connection.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row["code_hash"]))
                return None
            connection.execute(update(CODES).where(mine).values(used=True))
        return _code(row) if row["expires_at"] > self._clock() else None

    def save_refresh_token(self, token: str, grant: Code | RefreshToken, expires_at: float) -> None:
        """Remember a refresh token that this code or refresh token led to."""
        row = {
            "token_hash": digest(token),
            "session_id": grant.session_id,
            "client_id": grant.client_id,
            "scope": grant.scope,
            "family": grant.family,
            "expires_at": expires_at,
            "used": False,
        }
        with self._database.write() as connection:
            if _is_live(connection, grant.session_id):
                connection.execute(insert(REFRESH_TOKENS).values(row))

    def refresh_token(self, token: str) -> RefreshToken | None:
        """The refresh token, if it may be used; a replayed one ends its whole family."""
        with self._database.write() as connection:
            where = REFRESH_TOKENS.c.token_hash == digest(token)
            row = connection.execute(select(REFRESH_TOKENS).where(where)).mappings().first()
            if row is not None and row["used"]:
                connection.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row["family"]))
        if row is None or row["used"] or row["expires_at"] <= self._clock():
            return None
        return RefreshToken(**{name: row[name] for name in RefreshToken.__dataclass_fields__})

    def session_of_refresh_token(self, token: str, client_id: str) -> str | None:
        """The session that a client's refresh token is of, used or not."""
        table = REFRESH_TOKENS
        mine = (table.c.token_hash == digest(token)) & (table.c.client_id == client_id)
        with self._database.read() as connection:
            found: str | None = connection.scalar(select(table.c.session_id).where(mine))
        return found

    def use_refresh_token(self, token: RefreshToken) -> bool:
        """Mark it used; False, and the end of its family, when another request was faster."""
        table = REFRESH_TOKENS
        fresh = (table.c.token_hash == token.token_hash) & table.c.used.is_(False)
        with self._database.write() as connection:
            if connection.execute(update(table).where(fresh).values(used=True)).rowcount:
                return True
            connection.execute(delete(table).where(table.c.family == token.family))
        return False

    def begin_sign_in(self, username: str) -> float | None:
        """Count one attempt; seconds to wait when there were too many for this name already."""
        now, table = self._clock(), FAILED_SIGN_INS
        with self._database.write() as connection:
            connection.execute(delete(table).where(table.c.at <= now - GUESS_WINDOW_SECONDS))
            query = select(func.count(), func.min(table.c.at)).where(table.c.username == username)
            attempts, first = connection.execute(query).one()
            if attempts >= GUESSES:
                return float(first) + GUESS_WINDOW_SECONDS - now
            # Counted before the password is checked, or parallel guesses would be free.
            connection.execute(insert(table).values(username=username, at=now))
        return None

    def sign_in_succeeded(self, username: str) -> None:
        """Forget the failures of this name."""
        with self._database.write() as connection:
            connection.execute(delete(FAILED_SIGN_INS).where(FAILED_SIGN_INS.c.username == username))

    def _session(self, where: Any) -> SignedIn | None:
        with self._database.read() as connection:
            row = connection.execute(select(SESSIONS).where(where)).mappings().first()
        if row is None or row["expires_at"] <= self._clock():
            return None
        account = self._directory.account(row["user_id"])
        if account is None or row["began_at"] < account.sessions_from:
            return None
        return SignedIn(account, row["id"], row["began_at"], row["expires_at"])


def digest(secret: str) -> str:
    """How a secret is kept: enough for values of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _is_live(connection: Connection, session_id: str) -> bool:
    # The session may have been ended while the request was under way.
    return connection.execute(select(SESSIONS.c.id).where(SESSIONS.c.id == session_id)).first() is not None


def _code(row: RowMapping) -> Code:
    names = set(Code.__dataclass_fields__) - {"code_challenge_method"}
    return Code(**{name: row[name] for name in names})
