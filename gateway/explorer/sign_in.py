"""A browser's way through the issuer and back."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from flask import Response, request

from gateway.explorer.cookies import CookieTooLargeError
from gateway.explorer.pages import onward_page, problem_page, signed_out_page
from gateway.explorer.paths import ROOT
from gateway.explorer.provider import USED
from gateway.explorer.trail import ACTION_SIGN_IN, ACTION_SIGN_OUT
from gateway.problems import BadRequest, Forbidden, Problem, Unavailable
from pacs import logs
from pacs.catalog import CatalogUnavailableError

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.explorer.callers import Callers
    from gateway.explorer.cookies import SealedCookie
    from gateway.explorer.provider import Provider, SignedInToken
    from gateway.explorer.sessions import Sessions
    from gateway.explorer.trail import Trail

SIGN_IN_SECONDS = 600
_SPENT_MAX = 10_000
_NOT_BEGUN_HERE = "This sign-in did not begin in this browser, or took too long."
_REFUSED = "The identity provider did not sign you in."

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """What the browser keeps for us while it is at the issuer. `onward` was built here, never sent by it."""

    state: str
    nonce: str
    verifier: str
    onward: str


class _Spent:
    """The states that came back: with a copy of its cookie, one would have us ask the issuer again and again.

    Each process knows its own, the latest `_SPENT_MAX`; that a code signs in once, the issuer sees to.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, state: str) -> bool:
        """Whether it was not there yet."""
        with self._lock:
            if state in self._states:
                return False
            self._states[state] = None
            while len(self._states) > _SPENT_MAX:
                self._states.popitem(last=False)
            return True


class SignIn:
    """Begins and ends the browsers' sessions."""

    def __init__(
        self,
        *,
        provider: Provider,
        callers: Callers,
        trail: Trail,
        sessions: Sessions,
        pending: SealedCookie,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._callers = callers
        self._trail = trail
        self._sessions = sessions
        self._pending = pending
        self._clock = clock
        self._spent = _Spent()

    def begin(self, onward: str) -> Response:
        """Send the browser to the issuer; afterwards it goes on to `onward`, an address of ours.

        From one that is too long for a cookie it goes on to the first page instead.

        Raises:
            Unavailable: nobody knows where the issuer is.
        """
        pending = _Pending(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), onward
        )
        url = self._provider.authorization_url(pending.state, pending.nonce, pending.verifier)
        response = Response(status=302, headers={"Location": url})
        try:
            value = self._sealed(pending)
        except CookieTooLargeError:
            value = self._sealed(replace(pending, onward=f"{ROOT}/"))
        self._pending.set(response, value)
        return response

    def _sealed(self, pending: _Pending) -> str:
        return self._pending.seal(asdict(pending), self._clock.now(), SIGN_IN_SECONDS)

    def finish(self) -> Response:
        """The callback: a page that leads on, or one that says why not. A sign-in is for one use.

        What belongs to another one leaves that as it is: a browser may have begun it later, in another tab.
        """
        try:
            pending = self._begun_here()
        except BadRequest as problem:
            return problem_page(problem, can_sign_in=True)
        try:
            response = self._finish(pending)
        except Problem as problem:
            response = problem_page(problem, can_sign_in=True)
        self._pending.delete(response)
        return response

    def _finish(self, pending: _Pending) -> Response:
        if not self._spent.add(pending.state):
            raise BadRequest(USED)
        if "iss" in request.args and not self._provider.is_issuer(request.args["iss"]):
            raise BadRequest(_NOT_BEGUN_HERE)
        code = request.args.get("code")
        if not code or "error" in request.args:
            raise Forbidden(_REFUSED)
        signed_in = self._provider.redeem(code, pending.verifier, pending.nonce)
        self._admit(signed_in)
        response = onward_page(pending.onward)
        self._sessions.begin(response, signed_in)
        return response

    def _begun_here(self) -> _Pending:
        sealed = request.cookies.get(self._pending.name, "")
        values = self._pending.open(sealed, self._clock.now())
        if values is None or any(len(each) != 1 for each in request.args.to_dict(flat=False).values()):
            raise BadRequest(_NOT_BEGUN_HERE)
        values.pop("until")
        pending = _Pending(**values)
        if not hmac.compare_digest(pending.state.encode(), request.args.get("state", "").encode()):
            raise BadRequest(_NOT_BEGUN_HERE)
        return pending

    def _admit(self, signed_in: SignedInToken) -> None:
        try:
            self._callers.refuse_all_but_administrators(signed_in.claims)
        except Problem as problem:
            self._record(signed_in, problem.status, allowed=False)
            raise
        self._record(signed_in, 200, allowed=True)

    def _record(self, signed_in: SignedInToken, status: int, *, allowed: bool) -> None:
        self._trail.write(signed_in.claims, "callback", status, allowed=allowed, action=ACTION_SIGN_IN)

    def sign_out(self) -> Response:
        """Forget the browser here, end its session at the issuer, and have that forget the browser, too.

        A link of another site brings no cookie along: of that the issuer asks the person.
        """
        try:
            response = Response(status=302, headers={"Location": self._provider.end_session_url()})
        except Unavailable:
            response = signed_out_page()
        session = self._sessions.end(response)
        if session is not None:
            if session.refresh_token:
                self._provider.end_session(session.refresh_token)
            self._record_end(session.token, response.status_code)
        return response

    def _record_end(self, token: str, status: int) -> None:
        """What cannot be put on record is over all the same."""
        claims = self._provider.bearer_of(token)
        try:
            if claims is not None:
                self._trail.write(claims, "sign-out", status, action=ACTION_SIGN_OUT)
        except CatalogUnavailableError as error:
            _log.warning("that somebody signed out could not be put on record", reason=str(error))
