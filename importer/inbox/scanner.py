"""Looks through the inbox: all of it every RESCAN_SECONDS, a clinic's folder whenever it is due."""

from __future__ import annotations

import math
from itertools import islice
from threading import Condition
from typing import TYPE_CHECKING

from importer.files.failed_watch import FailedWatch
from importer.files.filing import UnmountedError
from importer.inbox.hints import Hints
from importer.inbox.look import EmptyFolders, InboxUnavailableError, Look, strangers
from importer.inbox.presence import Presence
from importer.inbox.served import ServedClinic
from importer.inbox.stability import StabilityTracker
from importer.sending.health import LOCKING, READING
from importer.work import End
from pacs import logs
from pacs.catalog import CatalogUnavailableError, clinics, transfers, verifications

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from importer.files.failed import FailedFile
    from importer.files.filing import Filer
    from importer.files.processed_watch import ProcessedWatch
    from importer.inbox.locks import ClinicLocks
    from importer.inbox.stability import Ripe
    from importer.metrics import ImporterMetrics
    from importer.sending.health import Health
    from importer.work import WaitingFile
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId

_log = logs.get(__name__)

HINT_SECONDS = 0.2
"""How long a folder in which something happened is left alone; more may be about to happen."""
BEAT_SECONDS = 1.0
"""How long a thread waits for news at most."""
_EFFORT = 5.0
_FIRST_FILES = 1000
_FIRST_SECONDS = 0.1
"""So many files of a full inbox are handed out so long before the others, which keeps every thread busy."""
CLINICS_SECONDS = 15.0
"""A new clinic is served after this at the latest, however seldom the inbox is looked through."""


class Scanner:
    """`run` it in a thread. `deliver` gets stable files, `give_up` clinics that are no longer ours."""

    def __init__(
        self,
        catalog: Catalog,
        locks: ClinicLocks,
        filer: Filer,
        health: Health,
        metrics: ImporterMetrics,
        *,
        cooldown: float,
        rescan: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        deliver: Callable[[ClinicId, Iterable[Ripe]], None],
        give_up: Callable[[ClinicId], None],
        is_idle: Callable[[ClinicId], bool],
        looked: Callable[[Collection[ClinicId]], None],
        was_stored: Callable[[FailedFile], bool],
        filed: ProcessedWatch,
        hint_seconds: float = HINT_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._catalog, self._locks, self._filer = catalog, locks, filer
        self._health, self._metrics = health, metrics
        self._cooldown, self._rescan = cooldown, min(rescan, CLINICS_SECONDS)
        self._clock, self._now = clock, now
        self._hint_seconds, self._beat_seconds = hint_seconds, beat_seconds
        self._deliver, self._give_up, self._is_idle, self._looked = deliver, give_up, is_idle, looked
        self._was_stored, self._filed = was_stored, filed
        self._known: frozenset[ClinicId] = frozenset()
        self._clinics: dict[ClinicId, ServedClinic] = {}
        self._told: set[ClinicId] = set()
        self._hinted: set[str] = set()
        self._news = Condition()
        self._stopped = False
        self._lost = False
        self._hints = Hints(filer.inbox, self.hint)
        self.full_looks = 0
        self.presence = Presence(metrics, clock)

    # Told from other threads

    def hint(self, name: str) -> None:
        """Something happened in the folder of this name."""
        with self._news:
            if not self._hinted:
                self._news.notify()
            self._hinted.add(name)

    def release(self, file: WaitingFile, end: End) -> None:
        """A file that was delivered is done with."""
        clinic = self._clinics.get(file.clinic_id)
        if clinic is not None:
            clinic.released.put((file, end))
            if end is End.CHANGED:
                self.hint(file.clinic_id)

    def stop(self) -> None:
        """Return from `run`."""
        with self._news:
            self._stopped = True
            self._news.notify()

    @property
    def waiting(self) -> int:
        """Files that were seen and are not done with."""
        return sum(len(clinic.tracker) for clinic in list(self._clinics.values()))

    # Its own thread

    def run(self) -> None:
        """Look until `stop`."""
        next_full = self._clock()
        try:
            while not self._stopped:
                now = self.presence.pulse.beat()
                full = now >= next_full
                try:
                    self._look_everywhere() if full else self._look_where_due(now)
                except Exception as error:  # noqa: BLE001 - the next look may go better
                    self._metrics.bugs.inc()
                    _log.error("the inbox could not be looked through", exc_info=error)
                if full:
                    next_full = self._clock() + self._rescan
                self._wait(next_full)
        finally:
            self.presence.pulse.rest()
            self._hints.stop()

    def _wait(self, next_full: float) -> None:
        # In an inbox that is lost nothing is due before it is looked for again.
        dues = [] if self._lost else [min(each.due, each.ripe_at) for each in self._clinics.values()]
        due = min([next_full, *dues])
        with self._news:
            if not self._hinted and not self._stopped:
                self._news.wait(min(self._beat_seconds, max(0.0, due - self._clock())))
            hinted, self._hinted = self._hinted, set()
        soon = self._clock() + self._hint_seconds
        for clinic_id, clinic in self._clinics.items():
            if clinic_id in hinted:
                clinic.due = max(clinic.not_before, min(clinic.due, soon))

    def _look_where_due(self, now: float) -> None:
        if self._lost:
            return
        for clinic_id, clinic in list(self._clinics.items()):
            if now >= clinic.due:
                self._look(clinic_id, clinic)
        self._hand_out()
        self._note_inbox()

    def _look_everywhere(self) -> None:
        self._hints.ensure()
        try:
            ours = self._locks.hold(self._known_clinics(), self._is_idle)
            found = strangers(self._filer.inbox, self._known)
        except InboxUnavailableError:
            self._lost = True
            self._note_inbox()
            return
        except CatalogUnavailableError:
            self._health.catalog.failed(LOCKING, self._clock())
            self._serve(set())
            return
        self._health.catalog.succeeded(self._clock(), of=LOCKING)
        self._serve(ours)
        self._forget_others()
        self._lost = False
        self._metrics.unknown_folders.set(found.unknown_folders)
        self._metrics.stray_files.set(found.stray_files)
        for clinic_id, clinic in list(self._clinics.items()):
            self._look(clinic_id, clinic)
            self._hand_out()
            if not clinic.missing:  # or a failed file could return to where the folder was
                clinic.failed.look()
        if not any(clinic.missing for clinic in self._clinics.values()):
            self._filed.look(self._clinics)
        self._note_inbox()
        self.full_looks += 1
        self._looked(list(self._clinics))

    def _known_clinics(self) -> frozenset[ClinicId]:
        try:
            with self._catalog.read() as connection:
                self._known = clinics.active_ids(connection)
                self._metrics.note_verifications(verifications.last(connection))
                self._metrics.note_unfinished(transfers.unfinished(connection).since, self._now())
        except CatalogUnavailableError:
            # Whom we serve does not change because the catalog is away.
            self._health.catalog.failed(READING, self._clock())
        else:
            self._health.catalog.succeeded(self._clock(), of=READING)
        self._metrics.register(self._known)
        return self._known

    def _serve(self, ours: set[ClinicId]) -> None:
        for clinic_id in self._clinics.keys() - ours:
            del self._clinics[clinic_id]
            self._give_up(clinic_id)
            _log.info("a clinic is served no longer", clinic=clinic_id)
        for clinic_id in ours - self._clinics.keys():
            self._filer.sweep(clinic_id)
            self._clinics[clinic_id] = ServedClinic(
                # Without a cooldown the last look, by whoever opens the file, must not follow at once.
                StabilityTracker(max(self._cooldown, self._hint_seconds)),
                EmptyFolders(self._cooldown),
                FailedWatch(
                    self._filer.failed,
                    self._filer.inbox,
                    clinic_id,
                    self._metrics,
                    cooldown=self._cooldown,
                    clock=self._clock,
                    now=self._now,
                    was_stored=self._was_stored,
                    beat=self.presence.pulse.beat,
                ),
            )
            _log.info("a clinic is served", clinic=clinic_id)

    def _forget_others(self) -> None:
        """What was last told of a clinic that is no longer ours must not stand for ever."""
        for clinic_id in self._told - self._clinics.keys():
            self._metrics.forget(clinic_id)
        self._told = set(self._clinics)

    def _look(self, clinic_id: ClinicId, clinic: ServedClinic) -> None:
        tracker = clinic.tracker
        clinic.due = clinic.ripe_at = math.inf
        while not clinic.released.empty():
            file, end = clinic.released.get_nowait()
            tracker.release(file, lost=end is not End.FILED)
        started, self.presence.looking_at = self.presence.pulse.beat(), clinic_id
        inbox, beat = self._filer.inbox, self.presence.pulse.beat
        try:
            self._filer.check_mount(inbox / clinic_id)
            found = Look(inbox, clinic_id, tracker, clinic.empty_folders, self._clock, beat).through()
        except (InboxUnavailableError, UnmountedError) as error:
            if not clinic.complained:
                _log.error("a clinic's inbox cannot be read", clinic=clinic_id, exc_info=error.__cause__)
            clinic.missing, clinic.complained = clinic.seen, True
            return
        clinic.seen, clinic.missing, clinic.complained = True, False, False
        ended = self._clock()
        clinic.not_before = ended + max(self._hint_seconds, _EFFORT * (ended - started))
        clinic.ripe_at = tracker.next_ripe()
        self._metrics.note_waiting(clinic_id, len(tracker), tracker.oldest())
        self._metrics.special.labels(clinic_id).set(found.special)
        self._metrics.under_way.labels(clinic_id).set(found.under_way)
        self._metrics.unreadable.labels(clinic_id).set(len(found.unreadable))

    def _hand_out(self) -> None:
        """Deliver what became stable. Whoever opens it looks once more, so another look is not waited for."""
        now = self._clock()
        for clinic_id, clinic in self._clinics.items():
            if now >= clinic.ripe_at:
                ripe = clinic.tracker.take(now)
                first = list(islice(ripe, _FIRST_FILES))
                self._deliver(clinic_id, first)
                if len(first) == _FIRST_FILES:
                    self._leave_to_others(_FIRST_SECONDS)
                    self._deliver(clinic_id, list(ripe))
                clinic.ripe_at = clinic.tracker.next_ripe()

    def _leave_to_others(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._stopped, seconds)

    def _note_inbox(self) -> None:
        each = self._clinics.values()
        up = not self._lost and not any(clinic.missing for clinic in each)
        # A mount point without its mount looks like an inbox without a single clinic.
        up = up and (not each or any(clinic.seen for clinic in each))
        self.presence.found(up=up)
