"""Keeps the catalog up with the archive: rows refreshed, empty reservations dropped, imports written."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

from importer.ages import Ages, Leaps
from importer.pulse import Pulse
from importer.recorded import events
from importer.sending.health import BOOKKEEPING, RESERVING
from pacs import logs
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import CatalogUnavailableError, audit, clinics, imports, ownership
from pacs.refreshing import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import date, datetime

    from sqlalchemy import Connection

    from importer.ledger import Ledger
    from importer.metrics import ImporterMetrics
    from importer.reading.claims import ActiveStudy, Claims
    from importer.sending.health import Health
    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.catalog.ownership import DirtyStudy
    from pacs.ids import ClinicId, Uid
    from pacs.refreshing import Refreshed

_log = logs.get(__name__)
_heads = logs.always(f"{__name__}.heads")

ORPHAN_SECONDS = 300.0
"""A provisional reservation whose files are not in hand is given up after this."""


class Bookkeeper:
    """One thread's work; `run` it there, tell it from anywhere."""

    def __init__(
        self,
        catalog: Catalog,
        archive: Archive,
        claims: Claims,
        ledger: Ledger,
        health: Health,
        *,
        metrics: ImporterMetrics,
        stable_age_seconds: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        nothing_waits: Callable[[], bool],
    ) -> None:
        self._nothing_waits = nothing_waits
        self._catalog, self._archive, self._claims = catalog, archive, claims
        self._ledger, self._health, self._metrics = ledger, health, metrics
        self._stable_age = stable_age_seconds
        self._clock, self._now = clock, now
        self._ended: deque[ActiveStudy] = deque()
        self._shown: deque[ActiveStudy] = deque()
        self._sweep: frozenset[ClinicId] | None = None
        self._dirty: deque[DirtyStudy] = deque()
        self._troubled: set[Uid] = set()
        self._ages: Ages[DirtyStudy] = Ages(clock)
        self._leaps = Leaps(clock)
        self._warned_of_overwriting = False
        self._head_logged_on: date | None = None
        self._sweep_failed = False
        self._busy = False
        self._stopped = False
        self._news = Condition()
        self.pulse = Pulse(clock)

    # Told from other threads

    def study_ended(self, study: ActiveStudy) -> None:
        """The files of a study are done."""
        with self._news:
            self._ended.append(study)
            self._news.notify()

    def study_goes_on(self, study: ActiveStudy) -> None:
        """A study that takes long should be shown as far as it is."""
        with self._news:
            self._shown.append(study)
            self._news.notify()

    def sweep(self, clinic_ids: Collection[ClinicId]) -> None:
        """Refresh what is dirty of these clinics, and do what else is due now and then."""
        with self._news:
            self._sweep = frozenset(clinic_ids)
            self._news.notify()

    def stop(self) -> None:
        """Finish what was told and return from `run`."""
        with self._news:
            self._stopped = True
            self._news.notify()

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was told is left to do."""
        with self._news:
            return not (self._busy or self._ended or self._shown or self._sweep is not None or self._dirty)

    # Its own thread

    def run(self) -> None:
        """Work until `stop`."""
        while True:
            with self._news:
                self._busy = False
                self.pulse.rest()
                self._news.wait_for(lambda: self._stopped or self._has_work())
                if self._stopped and not (self._ended or self._shown):
                    return
                self._busy = True
            self.pulse.beat()
            self.step()

    def _has_work(self) -> bool:
        return bool(self._ended or self._shown or self._dirty or self._sweep is not None)

    def step(self) -> None:
        """Do one thing, the most urgent first."""
        sweeps = not (self._ended or self._shown)
        try:
            self._do_next()
        except ArchiveUnavailableError as error:
            # Dirty is dirty: the next sweep finds it.
            if error.reason in {"unreachable", "timeout"}:
                self._dirty.clear()
            # A search that is slow or broken says nothing of storing.
            if error.reason == "unreachable":
                self._health.archive.failed(error.reason, self._clock())
        except CatalogUnavailableError:
            self._dirty.clear()
            self._sweep_failed = True
            self._health.catalog.failed(BOOKKEEPING, self._clock())
        except Exception as error:  # noqa: BLE001 - one study's oddity must not stop the others
            self._metrics.bugs.inc()
            _log.error("a study could not be refreshed, or what else is kept up", exc_info=error)
        if sweeps and not (self._dirty or self._sweep_failed):
            self._note_catalog()

    def _do_next(self) -> None:
        if self._ended:
            self._end(self._ended.popleft())
        elif self._shown:
            self._refresh(self._shown.popleft().study_uid)
        elif self._dirty:
            self._refresh_dirty(self._dirty.popleft())
        elif self._sweep is not None:
            clinic_ids, self._sweep = self._sweep, None
            self._sweep_failed = False
            self._begin_sweep(clinic_ids)

    def _note_catalog(self) -> None:
        # A sweep that came to its end has written what could not be written before.
        self._health.catalog.succeeded(self._clock(), of=BOOKKEEPING)
        if self._nothing_waits():
            self._health.catalog.succeeded(self._clock(), of=RESERVING)

    def _end(self, study: ActiveStudy) -> None:
        if not study.stored and self._claims.has_unfinished(study.study_uid):
            # Its files wait for something: the sweeps look after its row meanwhile.
            return
        # Before the archive is asked, which may be away for as long as this process lives.
        self._write_imports()
        # An archive may list a moment later what it has just confirmed.
        found = self._refresh(study.study_uid, hide_missing=not study.stored)
        nothing_stored = not found.listed and not study.stored
        if nothing_stored or (found.listed and not study.unnoted and study.series - study.confirmed):
            self._claims.drop(study.study_uid, study.clinic_id, found.marks)
        _log.info(
            "a study was imported" if study.stored else "nothing of a study was stored",
            clinic=study.clinic_id,
            study_uid=study.study_uid,
            files=study.stored,
        )

    def _refresh(self, study_uid: Uid, *, hide_missing: bool = False) -> Refreshed:
        found = refresh(
            self._catalog,
            self._archive,
            study_uid,
            stable_age_seconds=self._stable_age,
            busy=lambda: self._claims.is_active(study_uid),
            hide_missing=hide_missing,
            now=self._now,
        )
        self._note_answer()
        return found

    def _begin_sweep(self, clinic_ids: frozenset[ClinicId]) -> None:
        with self._catalog.write() as connection:
            now = self._now()
            latest = ownership.settles_at(now, self._stable_age)
            ownership.settle_by(connection, latest, anew=self._leaps.leapt(now))
            ownership.settle(connection, now)
            inactive = {each.id for each in clinics.all_clinics(connection) if not each.active}
            dirty = ownership.dirty(connection, clinic_ids | inactive)
            self._log_audit_head(connection, now.date())
        self._ages.see(dirty)
        # While the catalog is away, the rows of active studies are the proof that it can be written again.
        idle = [
            each
            for each in dirty
            if not (self._health.catalog.up and self._claims.is_active(each.study_uid))
            # Nobody serves an inactive clinic: only what would keep others waiting for ever is given up.
            and (each.clinic_id in clinic_ids or (each.provisional and self._is_old(each)))
        ]
        # One study that the archive cannot answer for must not stand before the others every time.
        self._dirty.extend(sorted(idle, key=lambda each: each.study_uid in self._troubled))
        self._troubled &= {each.study_uid for each in dirty}
        self._write_imports()
        self._check_overwriting()
        if not self._health.archive.up and not self._dirty:
            self._archive.is_empty()
            self._note_answer()

    def _note_answer(self) -> None:
        # While files wait, their own probes tell: a full archive still answers searches.
        if not self._health.archive.up and self._nothing_waits():
            self._health.archive.succeeded(self._clock())

    def _is_old(self, study: DirtyStudy) -> bool:
        return self._ages.of(study) >= ORPHAN_SECONDS

    def _refresh_dirty(self, study: DirtyStudy) -> None:
        self._troubled.add(study.study_uid)
        old = self._is_old(study)
        found = self._refresh(study.study_uid, hide_missing=old)
        self._troubled.discard(study.study_uid)
        if found.listed or old:
            self._claims.drop(study.study_uid, study.clinic_id, found.marks)

    def _write_imports(self) -> None:
        rows = self._ledger.take(self._claims.is_active)
        if not rows:
            return
        try:
            with self._catalog.write() as connection:
                now = self._now()
                imports.append(connection, rows, now)
                audit.extend(connection, events(rows), now)
        except BaseException:
            self._ledger.put_back(rows)
            raise

    def _log_audit_head(self, connection: Connection, today: date) -> None:
        """Once a day, where whoever changes the catalog cannot change it, too: a tail cut off shows then."""
        if self._head_logged_on == today:
            return
        head = audit.head(connection)
        _heads.info("head of the audit trail", audit_row=head.id, hash=head.hash)
        self._head_logged_on = today

    def _check_overwriting(self) -> None:
        if self._warned_of_overwriting:
            return
        overwrites = self._archive.overwrites()
        self._warned_of_overwriting = True
        if overwrites is False:
            _log.error(
                "the archive keeps old images: a corrected image under a known SOPInstanceUID would be lost; "
                "set OverwriteInstances to true",
                setting="OverwriteInstances",
            )
