"""The issuer's keys (RFC 7517), fetched and kept."""

from __future__ import annotations

import binascii
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from gateway.metrics import JWKS_FETCHED
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.clock import Clock

REFRESH_SECONDS = 300
"""The keys are fetched again after that, asked for or not: a key that left is refused from then on."""
ATTEMPT_SECONDS = 30
"""At most one fetch in that time, whatever unknown keys are asked for."""
OUTAGE_SECONDS = 3600
"""So long the keys stay good while the issuer cannot be reached."""
_FIRST_ATTEMPT_SECONDS = 5
_WAIT_SECONDS = 5
_WAITING_MAX = 2
_FETCH_SECONDS = 5
_CHUNK = 1 << 16
_DOCUMENT_LIMIT = 1 << 20
_KEYS_MAX = 100
_MIN_KEY_BITS = 2048
_OK = 200

_log = logs.get(__name__)


class JwksFetchError(Exception):
    """The issuer gave no key set."""


class JwksUnavailableError(Exception):
    """There are no keys, or none young enough, to check a signature with."""


class JwksFetcher:
    """Gets the key set over HTTP: short timeouts, no redirects, no body over 1 MiB or that takes over 5 s.

    Args:
        issuer: whose discovery document (OpenID Connect Discovery section 4) names the key set.
        jwks_url: where the key set is, if that is known.
    """

    def __init__(self, issuer: str, jwks_url: str = "") -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=2, read=3), retries=False, maxsize=1)

    def __call__(self) -> Any:
        """The key set's document, not yet judged.

        Raises:
            JwksFetchError: there is none to be had.
        """
        return self._get(self._jwks_url or self.discover("jwks_uri")["jwks_uri"])

    def discover(self, *names: str) -> dict[str, str]:
        """URLs that the issuer's discovery document names.

        Raises:
            JwksFetchError: there is no such document of this issuer, or it lacks one of them.
        """
        found = self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            raise JwksFetchError("the discovery document is another issuer's")
        urls = {name: found.get(name) for name in names}
        if not all(isinstance(url, str) and url.startswith(("http://", "https://")) for url in urls.values()):
            raise JwksFetchError("the discovery document does not name all that is needed")
        return {name: str(url) for name, url in urls.items()}

    def close(self) -> None:
        """Drop the connections."""
        self._pool.clear()

    def _get(self, url: str) -> Any:
        try:
            response = self._pool.request(
                "GET", url, headers={"Accept": "application/json"}, redirect=False, preload_content=False
            )
            try:
                body = _read(response)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise JwksFetchError(type(error).__name__) from None
        if response.status != _OK:
            raise JwksFetchError(f"status {response.status}")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise JwksFetchError("no JSON") from None


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body. A pool's timeout is for each piece, and there may be any number of those."""
    until = time.monotonic() + _FETCH_SECONDS
    body = b""
    while chunk := response.read1(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > _DOCUMENT_LIMIT:
            raise JwksFetchError("the document is too large")
        if time.monotonic() > until:
            raise JwksFetchError("the document takes too long")
    return body


def parse_keys(document: Any) -> dict[str, RSAKey]:
    """The RSA signing keys of a key set, by their `kid`; what is no such key is left out.

    Raises:
        JwksFetchError: the document is no key set.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise JwksFetchError("no key set")
    keys: dict[str, RSAKey] = {}
    for each in listed[:_KEYS_MAX]:
        if isinstance(each, dict) and (key := _signing_key(each)):
            keys.setdefault(each["kid"], key)
    return keys


def _signing_key(jwk: dict[str, Any]) -> RSAKey | None:
    wanted = jwk.get("kty") == "RSA" and jwk.get("use", "sig") == "sig" and jwk.get("alg", "RS256") == "RS256"
    if not wanted or not all(isinstance(jwk.get(each), str) and jwk[each] for each in ("kid", "n", "e")):
        return None
    try:
        key = RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
        size = key.public_key.key_size
    except (JoseError, ValueError, TypeError, binascii.Error):
        return None
    return key if size >= _MIN_KEY_BITS else None


@dataclass(frozen=True)
class _Snapshot:
    keys: Mapping[str, RSAKey]
    fetched_at: float


class JwksCache:
    """The keys in use. Threads share one; whoever asks for a known key never waits for a fetch.

    Args:
        fetch: gets the key set's document, or raises JwksFetchError.
        clock: tells the time.
    """

    def __init__(self, fetch: Callable[[], Any], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._snapshot: _Snapshot | None = None
        self._next_attempt = float("-inf")
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_WAITING_MAX)

    def key(self, kid: str) -> RSAKey | None:
        """The key of that id; None when the issuer has none.

        Or when others look for a key by now: anybody can make ids up, and threads are few. Who is refused for
        a key that is new comes again.

        Raises:
            JwksUnavailableError: there are no keys at all, or only ones that are too old.
        """
        snapshot = self._fresh()
        if kid not in snapshot.keys and self._waiting.acquire(blocking=False):
            try:
                self._refresh(snapshot, wait=True)
            finally:
                self._waiting.release()
            snapshot = self._usable() or snapshot
        return snapshot.keys.get(kid)

    def ready(self) -> bool:
        """Whether there are keys to check signatures with."""
        try:
            self._fresh()
        except JwksUnavailableError:
            return False
        return True

    def _fresh(self) -> _Snapshot:
        snapshot = self._usable()
        if snapshot is None:
            self._refresh(self._snapshot, wait=True)
            snapshot = self._usable()
            if snapshot is None:
                raise JwksUnavailableError("no keys of the issuer")
        elif self._clock.monotonic() - snapshot.fetched_at >= REFRESH_SECONDS:
            self._refresh(snapshot, wait=False)
            snapshot = self._usable() or snapshot
        return snapshot

    def _usable(self) -> _Snapshot | None:
        snapshot = self._snapshot
        if snapshot and self._clock.monotonic() - snapshot.fetched_at < OUTAGE_SECONDS:
            return snapshot
        return None

    def _refresh(self, seen: _Snapshot | None, *, wait: bool) -> None:
        """Fetch, unless that was done too recently; `wait` is for the fetch under way."""
        if self._clock.monotonic() < self._next_attempt and not self._fetching.locked():
            return
        if not self._fetching.acquire(timeout=_WAIT_SECONDS if wait else 0):
            return
        try:
            now = self._clock.monotonic()
            if now < self._next_attempt or self._snapshot is not seen:
                return
            self._next_attempt = now + (ATTEMPT_SECONDS if self._usable() else _FIRST_ATTEMPT_SECONDS)
            self._replace(now)
        finally:
            self._fetching.release()

    def _replace(self, now: float) -> None:
        try:
            keys = parse_keys(self._fetch())
        except JwksFetchError as error:
            _log.warning("the issuer's keys could not be fetched", reason=str(error))
            return
        self._snapshot = _Snapshot(keys, now)
        self._next_attempt = now + ATTEMPT_SECONDS
        JWKS_FETCHED.set_to_current_time()
