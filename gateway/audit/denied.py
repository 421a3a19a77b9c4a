"""Refusals, added up in memory and written as one row for each subject and study."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.audit.opened import ACTION
from pacs import logs
from pacs.catalog import CatalogUnavailableError, audit

if TYPE_CHECKING:
    from gateway.access.caller import Caller
    from gateway.clock import Clock
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId, Uid

WINDOW = timedelta(minutes=1)
"""How long denials are added up before they are written."""
PAIRS_MAX = 1000
"""Beyond so many pairs of subject and study, further studies are added up for each subject."""
_SUBJECTS_MAX = 10_000

_log = logs.get(__name__)

_Key = tuple[str, str, "Uid | None"]


@dataclass
class _Tally:
    username: str
    owner: ClinicId | None
    source: str
    count: int = 0


class Denials:
    """Counts refusals; a thread of its own writes them down. Threads share one."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._tallies: dict[_Key, _Tally] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def record(
        self,
        caller: Caller,
        study_uid: Uid | None,
        owner: ClinicId | None,
        source: str,
        action: str = ACTION,
    ) -> None:
        """Count one refusal; costs the same whether the study exists or not."""
        with self._lock:
            key: _Key = (action, caller.subject, study_uid)
            if key not in self._tallies and len(self._tallies) >= PAIRS_MAX:
                key, owner = (action, caller.subject, None), None
                if key not in self._tallies and len(self._tallies) >= _SUBJECTS_MAX:
                    key = (action, "(several)", None)
            tally = self._tallies.setdefault(key, _Tally(caller.username, owner, source))
            tally.count += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="denials", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write down what was counted; what cannot be written is kept."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        try:
            with self._catalog.write() as connection:
                for (action, subject, study_uid), tally in tallies.items():
                    several = action == ACTION and study_uid is None
                    event = audit.AuditEvent(
                        action=action,
                        subject=subject,
                        username=tally.username,
                        clinic_id=tally.owner,
                        study_uid=study_uid,
                        source=tally.source,
                        allowed=False,
                        detail="several studies" if several else "",
                        count=tally.count,
                    )
                    audit.append(connection, event, self._clock.now())
        except CatalogUnavailableError:
            _log.warning("denials could not be written, they are kept", count=len(tallies))
            self._keep(tallies)

    def close(self) -> None:
        """Write down the last ones."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _keep(self, tallies: dict[_Key, _Tally]) -> None:
        with self._lock:
            for key, tally in tallies.items():
                if key in self._tallies:
                    self._tallies[key].count += tally.count
                else:
                    self._tallies[key] = tally

    def _run(self) -> None:
        while not self._stop.wait(WINDOW.total_seconds()):
            self.flush()
