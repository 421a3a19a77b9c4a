"""The issuer, as the client `orthanc-explorer` uses it: authorization code with PKCE, by Authlib."""

# mypy: disallow-untyped-calls=False
# Authlib has no types of its own.

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError
from requests import RequestException

from gateway.explorer.paths import ROOT
from gateway.identity.claims import LEEWAY_SECONDS, ClaimsPolicy, InvalidTokenError
from gateway.identity.jwks import JwksFetchError, JwksUnavailableError
from gateway.identity.tokens import ALGORITHM, TOKEN_MAX, TokenVerifier, signed_claims, unverified_kid
from gateway.places import Places
from gateway.problems import BadRequest, Problem, Unauthorized, Unavailable
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.clock import Clock
    from gateway.identity.claims import VerifiedClaims
    from gateway.identity.jwks import JwksCache, JwksFetcher
    from gateway.settings import GatewaySettings

_ONCE: dict[str, Any] = {"allow_redirects": False, "timeout": (3, 10)}
_NO_GOOD = "invalid_grant"
_WAITING_MAX = 4
_ANYBODY = ""
DOWN = "The identity provider cannot be reached. Please try again in a minute."
USED = "This sign-in took too long or was used already."
_BUSY = "Too many requests wait for the identity provider. Please try again in a minute."

_log = logs.get(__name__)


class SignInEnded(Unauthorized):
    """There is no session, or no good one any more."""

    def __init__(self) -> None:
        super().__init__("The sign-in has ended, was revoked, or is not meant for this service.")


class BadProvider(Problem):
    """The issuer answered what it must not: a fault of the installation, not of the person."""

    status = 502

    def __init__(self) -> None:
        super().__init__("Signing in failed. Please tell your administrator to look at the gateway's log.")


@dataclass(frozen=True, slots=True)
class SignedInToken:
    """An access token fresh from the issuer, what it says, and what gets the next (empty: nothing does)."""

    token: str
    claims: VerifiedClaims
    refresh_token: str


@contextmanager
def _no_use() -> Iterator[None]:
    """What the issuer gave must be as its tokens are."""
    try:
        yield
    except InvalidTokenError as error:
        _log.error("the issuer's token for Explorer is not taken", reason=error.reason)
        raise BadProvider from None
    except JwksUnavailableError:
        raise Unavailable(DOWN) from None


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    end_session: str
    end_session_here: str


class Provider:
    """Talks to the issuer on behalf of a browser.

    Anybody may begin a sign-in and come back from it, so that few threads at a time wait for the issuer.
    """

    def __init__(
        self, settings: GatewaySettings, documents: JwksFetcher, jwks: JwksCache, clock: Clock
    ) -> None:
        logging.getLogger("authlib").setLevel(logging.INFO)  # its debug lines hold whole tokens
        self._issuer = settings.oidc_issuer
        self._token_url = settings.oidc_token_url
        self._client_id = settings.explorer_client_id
        self._client_secret = settings.explorer_client_secret
        self._callback = f"{settings.public_url}{ROOT}/callback"
        self._home = f"{settings.public_url}{ROOT}/"
        self._documents = documents
        self._jwks = jwks
        self._clock = clock
        self._policy = ClaimsPolicy(self._issuer, settings.oidc_audience, frozenset({self._client_id}))
        self._verifier = TokenVerifier(self._policy, jwks, clock)
        self._known: _Endpoints | None = None
        self._places = Places(_WAITING_MAX, _WAITING_MAX, _BUSY)

    def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in.

        Raises:
            Unavailable: the issuer does not tell.
        """
        address = self._endpoints().authorization
        with self._session() as session:
            url, _ = session.create_authorization_url(
                address, state=state, nonce=nonce, code_verifier=verifier
            )
        return str(url)

    def end_session_url(self) -> str:
        """Where a browser goes to sign out by OpenID Connect RP-Initiated Logout; it comes back to /orthanc/.

        Without an ID token as a hint the issuer asks the person first: a link of another site ends nothing.

        Raises:
            Unavailable: the issuer does not tell.
        """
        query = urlencode({"client_id": self._client_id, "post_logout_redirect_uri": self._home})
        return f"{self._endpoints().end_session}?{query}"

    def end_session(self, refresh_token: str) -> None:
        """End the session that a refresh token belongs to, as Keycloak has it ended by an application.

        An issuer that does not is logged; it can still ask the person, at `end_session_url`.
        """
        form = {
            "client_id": self._client_id,
            "client_secret": self._client_secret.get_secret_value(),
            "refresh_token": refresh_token,
        }
        try:
            url = self._endpoints().end_session_here
            with self._asking() as session:
                answer = session.request("POST", url, withhold_token=True, data=form, **_ONCE)
        except (RequestException, Unavailable) as error:
            _log.warning("the issuer ended no session", reason=type(error).__name__)
            return
        if answer.status_code != HTTPStatus.NO_CONTENT:
            _log.warning("the issuer ended no session", status=answer.status_code)

    def bearer_of(self, token: str) -> VerifiedClaims | None:
        """Whose token it is, or was until it expired; None when nobody can say any more."""
        try:
            key = self._jwks.key(unverified_kid(token))
            claims = signed_claims(token, key) if key else {}
            return self._policy.verify(claims, float(str(claims.get("iat", 0))))
        except (InvalidTokenError, JwksUnavailableError):
            return None

    def is_issuer(self, issuer: str) -> bool:
        """Whether an answer that names its issuer (RFC 9207) is this one's."""
        return issuer == self._issuer

    def redeem(self, code: str, verifier: str, nonce: str) -> SignedInToken:
        """The access token for a code, verified as those of scripts are.

        Raises:
            BadRequest: the code is not good any more.
            BadProvider: the issuer's answer is of no use.
            Unavailable: it gave none.
        """
        found = self._fetch(
            lambda session, url: session.fetch_token(url, code=code, code_verifier=verifier, **_ONCE),
            BadRequest(USED),
        )
        signed_in = self._verified(found)
        id_token = found.get("id_token")
        if not isinstance(id_token, str):
            raise BadProvider
        with _no_use():
            self._check_id_token(id_token, signed_in.token, nonce, signed_in.claims.subject)
        return signed_in

    def renew(self, refresh_token: str) -> SignedInToken:
        """The next access token of a session.

        Raises:
            SignInEnded: the session is over, or another request has used this refresh token.
            BadProvider: the issuer's answer is of no use.
            Unavailable: it gave none.
        """
        found = self._fetch(
            lambda session, url: session.refresh_token(url, refresh_token, **_ONCE), SignInEnded()
        )
        return self._verified(found)

    def _verified(self, found: dict[str, Any]) -> SignedInToken:
        access_token, refresh_token = found.get("access_token"), found.get("refresh_token") or ""
        if not isinstance(access_token, str) or not isinstance(refresh_token, str):
            raise BadProvider
        with _no_use():
            claims = self._verifier.verify(access_token)
        return SignedInToken(access_token, claims, refresh_token)

    def _fetch(self, ask: Callable[[OAuth2Session, str], dict[str, Any]], refused: Problem) -> dict[str, Any]:
        try:
            url = self._endpoints().token
            with self._asking() as session:
                return ask(session, url)
        except OAuthError as error:
            if error.error == _NO_GOOD:
                raise refused from None
            _log.error("the issuer refuses the client of Explorer", reason=type(error).__name__)
            raise BadProvider from None
        except (RequestException, ValueError) as error:
            _log.warning("the issuer gave no token", reason=type(error).__name__)
            raise Unavailable(DOWN) from None

    def _check_id_token(self, id_token: str, access_token: str, nonce: str, subject: str) -> None:
        """It was made for this sign-in, and with the access token (OpenID Connect Core section 3.1.3.7)."""
        if len(id_token) > TOKEN_MAX or (key := self._jwks.key(unverified_kid(id_token))) is None:
            raise InvalidTokenError("unknown-key")
        claims = CodeIDToken(
            signed_claims(id_token, key),
            {"alg": ALGORITHM},
            options={
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._client_id},
                "sub": {"essential": True, "value": subject},
                "nonce": {"essential": True, "value": nonce},
            },
            params={"nonce": nonce, "client_id": self._client_id, "access_token": access_token},
        )
        try:
            claims.validate(now=int(self._clock.now().timestamp()), leeway=LEEWAY_SECONDS)
        except JoseError:
            raise InvalidTokenError("claims") from None

    @contextmanager
    def _asking(self) -> Iterator[OAuth2Session]:
        """A session for one question.

        Raises:
            Unavailable: too many wait for an answer.
        """
        with self._places.take(_ANYBODY) as place, self._session() as session:
            session.hooks["response"].append(lambda *_, **__: place.answered())
            yield session

    def _session(self) -> OAuth2Session:
        session = OAuth2Session(
            self._client_id,
            self._client_secret.get_secret_value(),
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106 - the name of a method
            scope="openid",
            redirect_uri=self._callback,
            code_challenge_method="S256",
        )
        session.trust_env = False  # no proxy of the environment and no .netrc between the issuer and us
        return session

    def _endpoints(self) -> _Endpoints:
        if self._token_url:
            protocol = f"{self._issuer}/protocol/openid-connect"
            inside = self._token_url.rpartition("/")[0]
            return _Endpoints(f"{protocol}/auth", self._token_url, f"{protocol}/logout", f"{inside}/logout")
        if self._known is None:
            try:
                with self._places.take(_ANYBODY) as place:
                    found = self._documents.discover(
                        "authorization_endpoint", "token_endpoint", "end_session_endpoint"
                    )
                    place.answered()
            except JwksFetchError as error:
                _log.warning("the issuer's endpoints are not known", reason=str(error))
                raise Unavailable(DOWN) from None
            authorization, token, end_session = found.values()
            self._known = _Endpoints(authorization, token, end_session, end_session)
        return self._known
