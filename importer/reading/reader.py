"""The one thread that decides: which files are read next, what is reserved, what goes to the uploaders."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from importer.reading.batch import Batch, Upload
from importer.reading.obstacles import OBSTACLE_SECONDS, Obstacles
from importer.reading.opening import Blocked, open_instance, refused
from importer.reading.order import OVERTAKE_SECONDS, InstanceOrder, is_overdue
from importer.reading.schedule import FairQueue
from importer.reading.totals import Totals
from importer.reading.unknown import UnknownStudies
from importer.sending.backoff import BUG_CAP_SECONDS, exponential
from importer.sending.health import RESERVING
from importer.work import End, Result, Settlement, WaitingFile
from pacs import logs
from pacs.catalog import CatalogUnavailableError
from pacs.catalog.ownership import Granted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from importer.files.filing import Filer
    from importer.inbox.stability import Ripe
    from importer.ledger import Ledger
    from importer.metrics import ImporterMetrics
    from importer.reading.claims import Claims
    from importer.reading.holding import Holding
    from importer.sending.health import Health
    from importer.work import Known
    from pacs.catalog.ownership import Refusal
    from pacs.ids import ClinicId

_log = logs.get(__name__)

BATCH_FILES = 20
BATCH_BYTES = 16 << 20
_UNREADABLE_CAP_SECONDS = 60.0
_RESERVED_CAP_SECONDS = 8.0
_TURN_SECONDS = 0.5
_AGAIN = frozenset({End.ALONE, End.WAIT, End.LATER, End.LOOKED_UP, End.NEWEST})


class Reader:
    """Its state belongs to one thread, which tells it the news and asks for batches in turn."""

    def __init__(
        self,
        filer: Filer,
        claims: Claims,
        health: Health,
        metrics: ImporterMetrics,
        ledger: Ledger,
        *,
        holding: Holding,
        clock: Callable[[], float],
        release: Callable[[WaitingFile, End], None],
        capacity: int,
    ) -> None:
        self._filer, self._claims, self._health = filer, claims, health
        self._metrics, self._holding = metrics, holding
        self._clock, self._release, self._capacity = clock, release, capacity
        self._queue = FairQueue()
        self._batches = self._bytes = 0
        self._order = InstanceOrder()
        self._obstacles = Obstacles(filer, metrics)
        self._given_up: set[ClinicId] = set()
        self._unknown = UnknownStudies(holding)
        self.totals = Totals(metrics, ledger)

    def take_in(self, clinic_id: ClinicId, ripe: Iterable[Ripe]) -> None:
        """Files became stable."""
        now = self._clock()
        self._given_up.discard(clinic_id)
        for path, identity, place in ripe:
            self._queue.add(WaitingFile(clinic_id, path, identity, place, now))
            self.totals.in_hand[clinic_id] += 1

    def give_up(self, clinic_id: ClinicId) -> None:
        """The clinic is served by another importer, or no longer: forget its files, they lie in its inbox."""
        self._given_up.add(clinic_id)
        self._obstacles.forget(clinic_id)
        for file in [*self._queue.withdraw(clinic_id), *self._unknown.withdraw(clinic_id)]:
            self._finish(file, End.GONE)

    def take_back(self, batch: Batch, results: Iterable[Result]) -> None:
        """An uploader is done with a batch."""
        self._batches -= 1
        self._bytes -= batch.size
        now = self._clock()
        if batch.asks_archive:
            self._health.archive.cancel()
        for upload in batch.uploads:
            upload.instance.close()
        for result in results:
            file = result.file
            if file.settled is not None or result.end is End.LOOKED_UP:
                self._queue.add_first(self._unknown.answered(file, now))
            if result.sent and file.known and file.known.study_uid:
                self._claims.done(file.known.study_uid, stored=result.stored, clock=now)
            if file.clinic_id in self._given_up and result.end in _AGAIN:
                self._finish(file, End.GONE)
            else:
                self._take_result(result, now)

    def _take_result(self, result: Result, now: float) -> None:
        file = result.file
        match result.end:
            case End.LATER:
                self._queue.add_later(file, now + result.delay)
            case End.LOOKED_UP:
                file.looked_up = True
                self._queue.add_first([file])
            case End.NEWEST:
                self._queue.add_first([self._order.supersede(file)])
            case End.ALONE | End.WAIT:
                self._queue.add_alone(file)
            case _:
                self._finish(file, result.end)

    def due(self) -> float | None:
        """Seconds until `turn` may find something; None when only news can bring it."""
        now = self._clock()
        if self._batches >= self._capacity:
            return None
        waits = [gate.due(now) for gate in (self._health.archive, self._health.catalog) if not gate.up]
        if not self._queue.is_ready(now):
            next_due = self._queue.next_due(now)
            waits.append(math.inf if next_due is None else next_due - now)
        due = max(waits, default=0.0)
        return None if due == math.inf else due

    def turn(self) -> Batch | None:
        """The next batch, empty when all of it fell through; None when nothing can be done now."""
        now = self._clock()
        if self._batches >= self._capacity:
            return None
        with self._health.catalog.attempt(now) as catalog, self._health.archive.attempt(now) as archive:
            if not (catalog.granted and archive.granted):
                return None
            batch = self._next(now)
            archive.goes_on = batch is not None and batch.asks_archive
        if batch:
            self._batches += 1
            self._bytes += batch.size
        return batch

    def _next(self, now: float) -> Batch | None:
        probing = not (self._health.archive.up and self._health.catalog.up)
        turn = self._queue.take(now, count=1 if probing else BATCH_FILES, size=BATCH_BYTES)
        if turn is None:
            return None
        if turn.clinic_id in self._given_up:
            for file in turn.files:
                self._finish(file, End.GONE)
            return Batch(turn.clinic_id)
        batch = Batch(turn.clinic_id)
        opened: list[Upload] = []
        files = deque(turn.files)
        try:
            if self._obstacles.found(turn, self._bytes, self._queue.waiting(turn.clinic_id)):
                self._queue.block(turn.clinic_id, now + OBSTACLE_SECONDS)
            else:
                self._open(files, batch, opened)
            self._queue.add_first(list(files))
            files.clear()
            verdicts = self._reserve(opened, now)
        except BaseException:
            self._put_back(opened, [*batch.moves, *files])
            raise
        for upload, verdict in verdicts:
            self._take_verdict(upload, verdict, batch, now)
        return batch

    def _open(self, files: deque[WaitingFile], batch: Batch, opened: list[Upload]) -> None:
        started = self._clock()
        # One thread reads for all clinics, and a file may take it seconds: much to inflate, a slow share. So
        # what is left then goes back into the line, and the others go first for as long as that took.
        with self._filer.keeping_folders():
            while files:
                file = files.popleft()
                try:
                    self._read(file, batch, opened)
                except Exception as error:  # noqa: BLE001 - one file's oddity must not stop the others
                    self._meet_bug(file, error)
                took = self._clock() - started
                if took >= _TURN_SECONDS:
                    self._queue.rest(batch.clinic_id, started + 2 * took)
                    break

    def _read(self, file: WaitingFile, batch: Batch, opened: list[Upload]) -> None:
        if file.settled is not None:
            batch.moves.append(file)
            return
        if newer := self._order.give_way(file):
            _log.warning("a newer version of an image goes before one that is stuck", clinic=file.clinic_id)
            self._holding.note(newer, stuck=newer.stuck)
            self._queue.add_first([*self._unknown.give_up(file), newer])
            return
        found = open_instance(self._filer, file)
        if isinstance(found, Blocked):
            # A newer version of the image does not go before it because it has to wait.
            if found.known is None or self._is_next(file, found.known):
                self._block(file, found.reason, cap=_UNREADABLE_CAP_SECONDS, errno=found.errno)
        elif isinstance(found, End):
            self._finish(file, found)
        elif isinstance(found, Settlement):
            file.settled = found
            batch.moves.append(file)
        elif not self._is_next(file, found.known):
            found.close()
        elif outdated := self._order.outdated(file):
            found.close()
            file.settled = outdated
            batch.moves.append(file)
        elif any(found.known.sop_instance_uid == each.instance.known.sop_instance_uid for each in opened):
            found.close()  # an image of another study: the answer would name both by this one UID
            self._queue.add_first([file])
        else:
            opened.append(Upload(file, found))

    def _is_next(self, file: WaitingFile, known: Known) -> bool:
        """Whether it is this file's turn among those of the same image; if not, it is parked."""
        file.known = known
        holder = self._order.enter(file)
        if holder is file:
            return True
        self._holding.note(file, blocked="same-instance-under-way")
        if is_overdue(holder):
            self._queue.hasten(holder, self._clock() + OVERTAKE_SECONDS)
        return False

    def _reserve(self, opened: list[Upload], now: float) -> list[tuple[Upload, Refusal | Granted]]:
        claims = [upload.instance.claim(upload.file.clinic_id) for upload in opened]
        asks = not self._claims.knows(claims)
        looked_up = self._unknown.looked_up(opened)
        try:
            verdicts = self._claims.reserve(claims, now, looked_up)
        except CatalogUnavailableError:
            self._health.catalog.failed(RESERVING, now)
            self._put_back(opened)
            return []
        except Exception as error:  # noqa: BLE001 - the catalog refuses a value: only its file waits
            if len(opened) > 1:
                return [each for upload in opened for each in self._reserve([upload], now)]
            opened[0].instance.close()
            self._meet_bug(opened[0].file, error)
            return []
        if asks:
            self._health.catalog.succeeded(now, of=RESERVING)
        return list(zip(opened, verdicts, strict=True))

    def _put_back(self, opened: list[Upload], others: Iterable[WaitingFile] = ()) -> None:
        for upload in opened:
            upload.instance.close()
        self._queue.add_first([*(upload.file for upload in opened), *others])

    def _take_verdict(self, upload: Upload, verdict: Refusal | Granted, batch: Batch, now: float) -> None:
        file = upload.file
        if verdict is Granted.OWNED:
            if not file.holds:
                # Not when it was read: a file that waits for a reservation to end must not keep it.
                self._claims.know(upload.instance.header.study_instance_uid)
                file.holds = True
            self._holding.note(file, stuck=file.stuck)
            batch.uploads.append(upload)
            return
        upload.instance.close()
        if verdict is Granted.WAIT:
            self._block(file, "waiting-for-reservation", cap=_RESERVED_CAP_SECONDS)
            return
        if verdict is Granted.UNKNOWN:
            self._unknown.take(file, batch, now)
            return
        file.settled = refused(verdict, upload.instance.known)
        batch.moves.append(file)

    def _block(self, file: WaitingFile, reason: str, *, cap: float, errno: int | None = None) -> None:
        if self._holding.note(file, blocked=reason) and errno:
            _log.warning("files of a clinic wait", clinic=file.clinic_id, reason=reason, errno=errno)
        self._queue.add_first(self._unknown.give_up(file))
        delay = exponential(file.attempt(reason), first=1.0, cap=cap)
        self._queue.add_later(file, self._clock() + delay)

    def _meet_bug(self, file: WaitingFile, error: Exception) -> None:
        _log.error("a file could not be handled", clinic=file.clinic_id, exc_info=error)
        self._metrics.bugs.inc()
        self._block(file, "internal-error", cap=BUG_CAP_SECONDS)

    def _finish(self, file: WaitingFile, end: End) -> None:
        self._holding.note(file)
        if file.holds and file.known and file.known.study_uid:
            self._claims.forget(file.known.study_uid)
        self._queue.add_first(self._unknown.give_up(file))
        follower = self._order.leave(file)
        if follower is not None:
            self._holding.note(follower, stuck=follower.stuck)
            self._queue.add_first([follower])
        if end is End.FILED and file.settled is not None:
            self.totals.count(file, file.settled)
        self.totals.in_hand[file.clinic_id] -= 1
        self._release(file, end)
