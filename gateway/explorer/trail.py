"""Every request below /orthanc in the audit trail."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import request

from gateway.access.caller import Caller, nobody
from gateway.source import source_address
from pacs.catalog import audit

if TYPE_CHECKING:
    from gateway.audit.denied import Denials
    from gateway.clock import Clock
    from gateway.identity.claims import VerifiedClaims
    from gateway.settings import Network
    from pacs.catalog import Catalog

ACTION = "archive-request"
"""`detail` is method, path and, where it was known when the row was written, the answer's status."""
ACTION_SIGN_IN, ACTION_SIGN_OUT = "archive-sign-in", "archive-sign-out"
REFUSALS_WINDOW = timedelta(minutes=1)
"""Within it, only the first refusal of a subject has a row of its own."""
_PATH_MAX = 500
_KNOWN_MAX = 10_000
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


class Trail:
    """Writes the rows.

    An administrator gets a row for each request, allowed or not. What others are refused after the first time
    is added up by address and minute, and so are requests that bear no valid token and have nobody to name:
    they are anyone's to send, as often as they like.
    """

    def __init__(
        self, catalog: Catalog, denials: Denials, clock: Clock, trusted_proxies: tuple[Network, ...]
    ) -> None:
        self._catalog = catalog
        self._denials = denials
        self._clock = clock
        self._trusted_proxies = trusted_proxies
        self._refused: dict[str, float] = {}
        self._lock = threading.Lock()

    def write(
        self,
        claims: VerifiedClaims,
        tail: str,
        status: int | None = None,
        *,
        allowed: bool = True,
        action: str = ACTION,
    ) -> None:
        """Put the current request on record; it is durable when this returns.

        Args:
            claims: who asks.
            tail: the path below /orthanc/, as it came: whatever it holds, the row is one line of text. The
                query is left out, it may hold a patient's name.
            status: of the answer, where it is known already.
            allowed: whether it went, or goes, to the archive.
            action: what the row is about.

        Raises:
            pacs.catalog.CatalogUnavailableError: it cannot be written; nothing must be answered then.
        """
        path = _UNPRINTABLE.sub("?", tail)[:_PATH_MAX]
        words = [request.method, f"/{path}", *([str(status)] if status else [])]
        event = audit.AuditEvent(
            action=action,
            subject=claims.subject,
            username=claims.username,
            source=self._source(),
            allowed=allowed,
            detail=" ".join(words),
        )
        with self._catalog.write() as connection:
            audit.append(connection, event, self._clock.now())

    def refuse(self, claims: VerifiedClaims, tail: str, status: int) -> None:
        """Put on record that this is no administrator, or none any more; like `write`, or added up."""
        if self._is_first(claims.subject):
            self.write(claims, tail, status, allowed=False)
        else:
            self._denials.record(nobody(claims), None, None, self._source(), ACTION)

    def _is_first(self, subject: str) -> bool:
        now = self._clock.monotonic()
        with self._lock:
            if self._refused.get(subject, now) > now:
                return False
            if len(self._refused) >= _KNOWN_MAX:
                self._refused.clear()
            self._refused[subject] = now + REFUSALS_WINDOW.total_seconds()
        return True

    def count_stranger(self) -> None:
        """Count a request that bears no valid token."""
        source = self._source()
        nobody = Caller(f"(nobody) {source}", "", frozenset(), sees_all=False)
        self._denials.record(nobody, None, None, source, ACTION)

    def _source(self) -> str:
        forwarded = request.headers.get("X-Forwarded-For", "")
        return source_address(request.remote_addr or "", forwarded, self._trusted_proxies)
