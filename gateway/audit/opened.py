"""One row for each study that somebody opens, on record before the first byte of it is sent."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from pacs.catalog import audit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.access.caller import Caller
    from gateway.access.studies import OpenStudy
    from gateway.clock import Clock
    from pacs.catalog import Catalog

ACTION = "study-opened"
WINDOW = timedelta(minutes=15)
# Another process wrote the row, perhaps 14 minutes ago: it has to be looked for again soon.
_ELSEWHERE = timedelta(seconds=30)
_KNOWN_MAX = 10_000
_STRIPES = 64


class OpenedStudies:
    """Keeps the record. Threads share one; processes meet in the catalog."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lock = threading.Lock()
        # A viewer opens a study with a dozen requests at once: one of them writes, the others wait for it.
        self._writing = [threading.Lock() for _ in range(_STRIPES)]

    def record(self, caller: Caller, study: OpenStudy, source: str) -> None:
        """Put on record that the caller opens the study, unless that is there since less than 15 minutes.

        Raises:
            pacs.catalog.CatalogUnavailableError: it cannot be written, so the study must not be shown.
        """
        key = (caller.subject, study.study_uid)
        if self._is_known(key):
            return
        with self._writing[hash(key) % _STRIPES]:
            if not self._is_known(key):
                self._remember(key, self._write(caller, study, source))

    def _write(self, caller: Caller, study: OpenStudy, source: str) -> timedelta:
        """Write the row if there is none; gives how long it need not be looked for."""
        now = self._clock.now()
        with self._catalog.read() as connection:
            if self._recorded(connection, caller, study):
                return _ELSEWHERE
        with self._catalog.write() as connection:
            if not self._catalog.is_sqlite:
                lock = func.hashtextextended(f"{caller.subject} {study.study_uid}", 0)
                connection.execute(select(func.pg_advisory_xact_lock(lock)))
            if self._recorded(connection, caller, study):
                return _ELSEWHERE
            event = audit.AuditEvent(
                action=ACTION,
                subject=caller.subject,
                username=caller.username,
                clinic_id=study.owner,
                study_uid=study.study_uid,
                source=source,
            )
            audit.append(connection, event, now)
        return WINDOW

    def _recorded(self, connection: Connection, caller: Caller, study: OpenStudy) -> bool:
        now = self._clock.now()
        return audit.recorded_since(
            connection, ACTION, caller.subject, study.study_uid, since=now - WINDOW, until=now + WINDOW
        )

    def _is_known(self, key: tuple[str, str]) -> bool:
        with self._lock:
            until = self._known.get(key)
        return until is not None and self._clock.monotonic() < until

    def _remember(self, key: tuple[str, str], span: timedelta) -> None:
        with self._lock:
            self._known[key] = self._clock.monotonic() + span.total_seconds()
            self._known.move_to_end(key)
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
