"""Events added up in memory and written once a minute: what they cost a request is next to nothing."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pacs import logs
from pacs.catalog import CatalogUnavailableError, audit

if TYPE_CHECKING:
    from gateway.clock import Clock
    from pacs.catalog import Catalog
    from pacs.catalog.audit import AuditEvent

WINDOW = timedelta(minutes=1)
"""How long events are added up before they are written."""
EXACT_MAX = 300
"""Beyond so many different events of one subject, further ones are added up for each address."""
_ADDRESSES_MAX = 100
_EVENTS_MAX = 10_000
"""Of all subjects together."""

_log = logs.get(__name__)

_Key = tuple[str, str, str | None, str, str]


def _key(event: AuditEvent) -> _Key:
    return event.action, event.subject, event.study_uid, event.detail, event.source


class Gathered:
    """Counts events; a thread of its own writes them down. Threads share one."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._tallies: dict[_Key, AuditEvent] = {}
        self._of_subject: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @staticmethod
    def coarser(event: AuditEvent) -> AuditEvent:
        """What stands for this event and others of its subject, when there are too many."""
        raise NotImplementedError

    def add(self, event: AuditEvent) -> None:
        """Count one event."""
        with self._lock:
            self._count(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
                self._thread.start()

    def _count(self, event: AuditEvent) -> None:
        if _key(event) not in self._tallies:
            event = self._bounded(event)
        key = _key(event)
        known = self._tallies.get(key)
        self._tallies[key] = replace(known, count=known.count + event.count) if known else event
        self._of_subject[event.subject] += known is None

    def _bounded(self, event: AuditEvent) -> AuditEvent:
        """The event, or what stands for it: one subject's flood leaves those of the others as they are."""
        known, all_known = self._of_subject[event.subject], len(self._tallies)
        if known < EXACT_MAX and all_known < _EVENTS_MAX:
            return event
        event = self.coarser(event)
        if known >= EXACT_MAX + _ADDRESSES_MAX or all_known >= _EVENTS_MAX:
            event = replace(event, source="")
        if _key(event) not in self._tallies and all_known >= _EVENTS_MAX:
            event = replace(event, subject="(several)", username="")
        return event

    def flush(self) -> None:
        """Write down what was counted; what cannot be written is kept."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
            self._of_subject.clear()
        if not tallies:
            return
        try:
            with self._catalog.write() as connection:
                audit.extend(connection, tallies.values(), self._clock.now())
        except CatalogUnavailableError:
            self._keep(tallies)
            _log.warning("audit rows could not be written, they are kept", count=len(tallies))
        except BaseException:
            self._keep(tallies)
            raise

    def _keep(self, tallies: dict[_Key, AuditEvent]) -> None:
        with self._lock:
            for event in tallies.values():
                self._count(event)

    def close(self) -> None:
        """Write down the last ones."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(WINDOW.total_seconds()):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next minute's rows are to be written
                _log.error("audit rows cannot be written", exc_info=error)
