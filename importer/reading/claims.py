"""Which studies are being imported now: each reserved once in the catalog, then known here.

The catalog is written once per study and series, not per file. What is known here is forgotten as soon as
a study's files are done: its next file reserves, and marks the study dirty, again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from importer.recorded import begun
from pacs import logs
from pacs.catalog import Catalog, CatalogUnavailableError, audit, ownership
from pacs.catalog.ownership import Granted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from pacs.catalog.audit import AuditEvent
    from pacs.catalog.ownership import Claim, Refusal
    from pacs.ids import ClinicId, Uid

_log = logs.get(__name__)

IDLE_SECONDS = 0.3
"""A study whose files are done is refreshed after this; more of its files may be about to be read."""


@dataclass
class ActiveStudy:
    """A study with files under way, or a moment ago.

    Attributes:
        series: reserved in this activity.
        confirmed: series of which the catalog knows that the archive has an instance.
        under_way: files in a batch.
        stored: files that the archive confirmed.
        unnoted: some of that could not be written into the catalog.
        idle_since: when the last one under way was done.
        shown_at: when its row was brought up to date last while it was imported.
        warnings: what the archive warned of when it stored its files.
    """

    clinic_id: ClinicId
    study_uid: Uid
    patient_id: str
    series: set[Uid] = field(default_factory=set)
    confirmed: set[Uid] = field(default_factory=set)
    under_way: int = 0
    stored: int = 0
    unnoted: bool = False
    idle_since: float = 0.0
    shown_at: float = 0.0
    warnings: set[str] = field(default_factory=set)

    def covers(self, claim: Claim) -> bool:
        """Whether the catalog has granted this very claim in this activity."""
        return (
            claim.clinic_id == self.clinic_id
            and claim.patient_id == self.patient_id
            and claim.series_uid in self.series
        )


class Claims:
    """The active studies. Shared by the reader, the uploaders and the bookkeeper."""

    def __init__(self, catalog: Catalog, now: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._now = now
        self._active: dict[Uid, ActiveStudy] = {}
        self._unfinished: Counter[Uid] = Counter()
        self._lock = Lock()

    def reserve(
        self, claims: Sequence[Claim], clock: float, looked_up: Collection[Uid]
    ) -> list[Refusal | Granted]:
        """Reserve for files about to be sent, in one transaction; an owned one counts as under way then.

        Args:
            claims: what they ask for.
            clock: now.
            looked_up: studies that may be reserved even if the catalog does not know them.

        Raises:
            CatalogUnavailableError: nothing was reserved.
        """
        with self._lock:
            verdicts = self._ask([claim for claim in claims if not self._is_known(claim)], looked_up)
            found = [verdicts.get(claim, Granted.OWNED) for claim in claims]
            for claim, verdict in zip(claims, found, strict=True):
                if verdict is Granted.OWNED:
                    self._begin(claim, clock)
            return found

    def knows(self, claims: Iterable[Claim]) -> bool:
        """Whether `reserve` would grant all of these without asking the catalog."""
        with self._lock:
            return all(self._is_known(claim) for claim in claims)

    def _ask(self, claims: Iterable[Claim], looked_up: Collection[Uid]) -> dict[Claim, Refusal | Granted]:
        if not claims:
            return {}
        # One order for all importers: two that lock rows in different orders would wait for each other.
        ordered = sorted(dict.fromkeys(claims), key=lambda claim: claim.study_uid)
        with self._catalog.write() as connection:
            verdicts = {
                claim: ownership.reserve(connection, claim, self._now(), new=claim.study_uid in looked_up)
                for claim in ordered
            }
            audit.extend(connection, self._begun(verdicts), self._now())
        return verdicts

    def _begun(self, verdicts: Mapping[Claim, Refusal | Granted]) -> list[AuditEvent]:
        """The imports that begin now; one whose files only waited, for the archive say, has begun before."""
        owners = {
            claim.study_uid: claim.clinic_id
            for claim, verdict in verdicts.items()
            if verdict is Granted.OWNED
        }
        return [
            begun(clinic_id, study_uid)
            for study_uid, clinic_id in owners.items()
            if study_uid not in self._active and not self._unfinished[study_uid]
        ]

    def _is_known(self, claim: Claim) -> bool:
        active = self._active.get(claim.study_uid)
        return active is not None and active.covers(claim)

    def _begin(self, claim: Claim, clock: float) -> None:
        active = self._active.get(claim.study_uid)
        if active is None:
            active = ActiveStudy(claim.clinic_id, claim.study_uid, claim.patient_id, shown_at=clock)
            self._active[claim.study_uid] = active
        active.series.add(claim.series_uid)
        active.under_way += 1

    def done(self, study_uid: Uid, *, stored: bool, clock: float) -> None:
        """A file that was under way is no longer."""
        with self._lock:
            active = self._active[study_uid]
            active.under_way -= 1
            active.stored += stored
            active.idle_since = clock

    def confirm(self, study_uid: Uid, series_uids: Iterable[Uid]) -> None:
        """The archive has stored an instance of each of these series.

        A catalog that is away is no loss: the study is dirty, and refreshing it confirms it.
        """
        with self._lock:
            active = self._active.get(study_uid)
            new = set(series_uids) - (active.confirmed if active else set())
        if not new:
            return
        try:
            with self._catalog.write() as connection:
                ownership.confirm(connection, study_uid, new, self._now())
        except CatalogUnavailableError:
            _log.warning("a stored instance could not be noted yet", study_uid=study_uid)
            with self._lock:
                if active is not None:
                    active.unnoted = True
            return
        with self._lock:
            if active is not None:
                active.confirmed |= new

    def first_warning(self, study_uid: Uid, warning: str) -> bool:
        """Whether the archive warned of this for the first time while the study is imported."""
        with self._lock:
            active = self._active.get(study_uid)
            if active is None or warning in active.warnings:
                return False
            active.warnings.add(warning)
            return True

    def take_idle(self, clock: float, *, idle: float = IDLE_SECONDS) -> list[ActiveStudy]:
        """Forget the studies whose files are done, and return them."""
        with self._lock:
            done = [
                each
                for each in self._active.values()
                if not each.under_way and clock - each.idle_since >= idle
            ]
            for each in done:
                del self._active[each.study_uid]
            return done

    def take_shown_before(self, clock: float, age: float) -> list[ActiveStudy]:
        """Studies in the middle of a long import whose row was not brought up to date for `age` seconds."""
        with self._lock:
            due = [each for each in self._active.values() if each.stored and clock - each.shown_at >= age]
            for each in due:
                each.shown_at = clock
            return due

    def next_idle(self, clock: float) -> float | None:
        """Seconds until a study is to be taken by `take_idle`."""
        with self._lock:
            waits = [
                each.idle_since + IDLE_SECONDS - clock for each in self._active.values() if not each.under_way
            ]
        return max(0.0, min(waits)) if waits else None

    def is_active(self, study_uid: Uid) -> bool:
        """Whether a file of the study may be on its way to the archive."""
        with self._lock:
            return study_uid in self._active

    def know(self, study_uid: Uid) -> None:
        """The study was reserved for a file, which will be `forget`-ed when it is finished, whichever way."""
        with self._lock:
            self._unfinished[study_uid] += 1

    def forget(self, study_uid: Uid) -> None:
        """A file of this study is finished."""
        with self._lock:
            self._unfinished[study_uid] -= 1
            if self._unfinished[study_uid] <= 0:
                del self._unfinished[study_uid]

    def has_unfinished(self, study_uid: Uid) -> bool:
        """Whether a file that the study was reserved for is in hand, under way or waiting."""
        with self._lock:
            return self._unfinished[study_uid] > 0

    def drop(self, study_uid: Uid, clinic_id: ClinicId, marks: int | None) -> None:
        """Give up what nothing was stored under, unless a file of the study is in hand or was since `marks`.

        Raises:
            CatalogUnavailableError: nothing was dropped.
        """
        with self._lock:
            if study_uid in self._active or self._unfinished[study_uid] > 0:
                return
            with self._catalog.write() as connection:
                ownership.drop_provisional(connection, study_uid, clinic_id, marks=marks)
