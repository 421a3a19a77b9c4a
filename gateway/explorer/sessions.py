"""Browsers' sessions: their tokens are in the browsers' own cookies, and are renewed at the issuer.

The issuer is asked anew after RENEW_SECONDS, however long its tokens live: whoever is removed there, or loses
the role, is out by then. (No token ends before that: the verifier allows LEEWAY_SECONDS for clocks.)

Of the requests that a page sends at once, whichever process they reach, one renews and the others get the
same tokens: a refresh token is for one use, and an issuer ends the session of one that comes more often. If
an answer is lost on its way to the browser, the next request finds what it brought, too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Response, after_this_request, request

from gateway.explorer.cookies import CookieTooLargeError
from gateway.explorer.provider import DOWN, BadProvider, SignInEnded
from gateway.metrics import DENIED
from gateway.problems import Problem, Unavailable
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.clock import Clock
    from gateway.explorer.cookies import SealedCookie
    from gateway.explorer.provider import Provider, SignedInToken
    from gateway.explorer.turns import Turns

RENEW_SECONDS = 30
SESSION_SECONDS = 12 * 60 * 60
"""A working day, as in the realm: an issuer ends a session earlier, and none later."""
_AGAIN_SECONDS = 5
_TOKEN, _REFRESH, _RENEW_AT, _REFUSED = "access_token", "refresh_token", "renew_at", "refused"
_TOO_LARGE = (
    "Your account has too many roles or clinics for a browser's cookie. Please tell your administrator."
)

_log = logs.get(__name__)


class TokenTooLarge(Problem):
    """No browser would keep the cookie."""

    status = 502


class SignedOut(NamedTuple):
    """A session's last access token, and what would have got the next (empty: nothing)."""

    token: str
    refresh_token: str


class Sessions:
    """Gives a session to a browser, and knows it again."""

    def __init__(self, *, cookie: SealedCookie, provider: Provider, turns: Turns, clock: Clock) -> None:
        self._cookie = cookie
        self._provider = provider
        self._turns = turns
        self._clock = clock

    def begin(self, response: Response, signed_in: SignedInToken) -> None:
        """Let the browser have what was signed in.

        Raises:
            TokenTooLarge: no browser would keep it.
        """
        self._cookie.set(response, self._sealed(self._values(signed_in)))

    def end(self, response: Response) -> SignedOut | None:
        """Let the browser forget it; gives what it was, if there was one."""
        self._cookie.delete(response)
        values = self._opened()
        return SignedOut(values[_TOKEN], values.get(_REFRESH, "")) if values else None

    def _opened(self) -> dict[str, Any] | None:
        return self._cookie.open(request.cookies.get(self._cookie.name, ""), self._clock.now())

    @property
    def is_there(self) -> bool:
        """Whether the browser sent something with the current request that is to be a session."""
        return bool(request.cookies.get(self._cookie.name))

    def access_token(self) -> str:
        """The token of the browser that sends the current request; the answer brings it a renewed one.

        Raises:
            SignInEnded: there is no session, or it is over.
            Unavailable: it has to be renewed, and the issuer does not answer.
            BadProvider: the issuer's answer is of no use.
        """
        values = self._opened()
        if values is None:
            DENIED.labels("no-token").inc()
            raise SignInEnded
        if _REFRESH in values and values[_RENEW_AT] <= self._clock.now().timestamp():
            values = self._renewed(values[_REFRESH])
        token: str = values[_TOKEN]
        return token

    def _renewed(self, refresh_token: str) -> dict[str, Any]:
        try:
            values = self._turns.once(refresh_token, partial(self._renew, refresh_token))
        except OSError as error:
            _log.error("sessions of browsers cannot be renewed", reason=str(error))
            raise Unavailable("The sign-in cannot be renewed.") from None
        if _REFUSED in values:
            raise self._refusal(values[_REFUSED])
        value = self._sealed(values)
        after_this_request(lambda response: _after(response, self._cookie.set, value))
        return values

    def _renew(self, refresh_token: str) -> tuple[dict[str, Any], int]:
        """What one request asks for all; also what it was refused, or each would wait for a silent issuer."""
        try:
            signed_in = self._provider.renew(refresh_token)
        except Problem as problem:
            return {_REFUSED: problem.status}, _AGAIN_SECONDS
        return self._values(signed_in), RENEW_SECONDS

    def _refusal(self, status: int) -> Problem:
        if status == SignInEnded.status:
            DENIED.labels("time").inc()
            after_this_request(lambda response: _after(response, self._cookie.delete))
            return SignInEnded()
        return BadProvider() if status == BadProvider.status else Unavailable(DOWN)

    def _values(self, signed_in: SignedInToken) -> dict[str, Any]:
        """Without a refresh token the session ends with its token."""
        if not signed_in.refresh_token:
            return {_TOKEN: signed_in.token}
        renew_at = self._clock.now().timestamp() + RENEW_SECONDS
        return {_TOKEN: signed_in.token, _REFRESH: signed_in.refresh_token, _RENEW_AT: renew_at}

    def _sealed(self, values: dict[str, Any]) -> str:
        try:
            return self._cookie.seal(values, self._clock.now(), SESSION_SECONDS)
        except CookieTooLargeError:
            _log.error("an administrator's tokens do not fit into a cookie")
            raise TokenTooLarge(_TOO_LARGE) from None


def _after(response: Response, change: Callable[..., None], *values: str) -> Response:
    change(response, *values)
    return response
