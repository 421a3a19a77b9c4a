"""Sends a batch, judges the answer, and files what is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.files.filing import NO_SPACE
from importer.files.moving import GoneError, MoveError
from importer.sending.backoff import exponential
from importer.sending.health import RESERVING
from importer.sending.policy import (
    OTHER_WARNING,
    WARNINGS,
    Alone,
    Failed,
    Situation,
    Stored,
    Stuck,
    Wait,
    judge,
    judge_silence,
)
from importer.work import End, Result, Settlement
from pacs import logs
from pacs.archive import ArchiveUnavailableError, Part, SourceChangedError, StoreAnswer
from pacs.catalog import CatalogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from importer.files.filing import Filer
    from importer.files.processed_watch import ProcessedWatch
    from importer.metrics import ImporterMetrics
    from importer.reading.batch import Batch, Upload
    from importer.reading.claims import Claims
    from importer.reading.holding import Holding
    from importer.sending.health import Health
    from importer.sending.looking_up import LookUp
    from importer.sending.policy import Verdict
    from importer.work import WaitingFile
    from pacs.archive import Archive
    from pacs.ids import ClinicId

_log = logs.get(__name__)

_STUCK_CAP_SECONDS = 3600.0
_QUIET_SECONDS = 4.0
_MOVE_CAP_SECONDS = 60.0
_UNLOCKED_SECONDS = 1.0


class Uploader:
    """Handles one batch at a time; several may run in threads, on the same collaborators."""

    def __init__(
        self,
        archive: Archive,
        filer: Filer,
        claims: Claims,
        health: Health,
        metrics: ImporterMetrics,
        *,
        holding: Holding,
        look_up: LookUp,
        filed: ProcessedWatch,
        is_ours: Callable[[ClinicId], bool],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._look_up, self._filed, self._is_ours = look_up, filed, is_ours
        self._archive, self._filer, self._claims = archive, filer, claims
        self._health, self._metrics, self._holding = health, metrics, holding
        self._clock, self._now = clock, now

    def handle(self, batch: Batch, results: list[Result]) -> None:
        """Do what the batch asks; what became of each file is appended as soon as it is known."""
        with self._filer.keeping_folders():
            results.extend(self._file(file) for file in batch.moves)
        sendable: list[tuple[Upload, Part]] = []
        for upload in batch.uploads:
            part = self._part(upload, results)
            if part is not None:
                sendable.append((upload, part))
        if sendable:
            self._send(sendable, results)
        results.extend(self._ask_about(file) for file in batch.look_ups)

    def _ask_about(self, file: WaitingFile) -> Result:
        """Whether the file's study, which the catalog does not know, may be reserved for its clinic."""
        asked_at = self._health.sent
        try:
            file.settled = self._look_up.refusal(file)
        except ArchiveUnavailableError as error:
            situation = self._situation(file, alone=True, sent_at=asked_at)
            return self._unanswered(file, judge_silence(error, situation))
        except CatalogUnavailableError:
            self._health.catalog.failed(RESERVING, self._clock())
            return Result(file, End.WAIT)
        return Result(file, End.LOOKED_UP) if file.settled is None else self._file(file)

    def _unanswered(self, file: WaitingFile, verdict: Wait | Alone | Stuck) -> Result:
        now = self._clock()
        if isinstance(verdict, Stuck):
            self._health.archive.no_better(now)
            return self._stuck(file, verdict.reason, sent=False)
        self._health.archive.failed(verdict.reason, now)
        file.trouble_at = self._health.sent
        return Result(file, End.WAIT)

    def _part(self, upload: Upload, results: list[Result]) -> Part | None:
        file = upload.file
        try:
            part = upload.instance.part(file, self._now(), self._filer.processed)
        except OSError as error:
            reason = "no-space" if error.errno in NO_SPACE else "unreadable"
            results.append(self._blocked(file, reason, error.errno, sent=True))
            return None
        if isinstance(part, Settlement):
            file.settled = part
            results.append(self._file(file, sent=True))
            return None
        return part

    def _send(self, sendable: list[tuple[Upload, Part]], results: list[Result]) -> None:
        uploads = [upload for upload, _ in sendable]
        if not self._is_ours(uploads[0].file.clinic_id):
            results.extend(
                Result(upload.file, End.LATER, sent=True, delay=_UNLOCKED_SECONDS) for upload in uploads
            )
            return
        request = self._health.send()
        said: StoreAnswer | ArchiveUnavailableError
        try:
            said = self._archive.store([part for _, part in sendable])
        except SourceChangedError:
            results.extend(self._after_source_change(upload, alone=len(uploads) == 1) for upload in uploads)
            return
        except ArchiveUnavailableError as error:
            said = error
        verdicts = [
            judge(
                said,
                upload.instance.header.sop_instance_uid,
                self._situation(upload.file, alone=len(uploads) == 1, sent_at=request),
            )
            for upload in uploads
        ]
        if any(isinstance(verdict, Stored) for verdict in verdicts):
            self._health.has_stored(request)
            # That others of this answer were stored shows that the archive takes some.
            trouble_at = request - 1
        else:
            trouble_at = self._health.sent
        self._note(said, uploads, verdicts)
        with self._filer.keeping_folders():
            for upload, verdict in zip(uploads, verdicts, strict=True):
                results.append(self._apply(upload, verdict, trouble_at))

    def _situation(self, file: WaitingFile, *, alone: bool, sent_at: int) -> Situation:
        if file.trouble_at is None:
            file.trouble_at = sent_at
        return Situation(
            alone=alone,
            others_stored=self._health.stores_since(file.trouble_at),
            processing_failures=file.processing_failures,
            stuck=file.stuck,
        )

    def _note(
        self, said: StoreAnswer | ArchiveUnavailableError, uploads: list[Upload], verdicts: list[Verdict]
    ) -> None:
        """Tell everyone what the answer says of the archive, and the catalog what is stored."""
        now = self._clock()
        waits = [verdict for verdict in verdicts if isinstance(verdict, Wait)]
        stored = [up for up, verdict in zip(uploads, verdicts, strict=True) if isinstance(verdict, Stored)]
        if waits:
            self._health.archive.failed(waits[0].reason, now)
        elif isinstance(said, ArchiveUnavailableError) or all(isinstance(each, Stuck) for each in verdicts):
            self._health.archive.no_better(now)
        else:
            self._health.archive.succeeded(now)
        for study_uid in {upload.instance.known.study_uid for upload in stored}:
            known = (upload.instance.known for upload in stored)
            series = [each.series_uid for each in known if each.study_uid == study_uid and each.series_uid]
            if study_uid is not None:
                self._claims.confirm(study_uid, series)
        if isinstance(said, StoreAnswer):
            self._tell_warnings(said, stored)

    def _tell_warnings(self, answer: StoreAnswer, stored: list[Upload]) -> None:
        for upload in stored:
            clinic_id, header = upload.file.clinic_id, upload.instance.header
            code = answer.warnings.get(header.sop_instance_uid)
            if code is None:
                continue
            reason = WARNINGS.get(code, OTHER_WARNING)
            self._metrics.warnings.labels(clinic_id, reason).inc()
            if self._claims.first_warning(header.study_instance_uid, reason):
                _log.warning(
                    "the archive did not store images as they were sent",
                    clinic=clinic_id,
                    study_uid=header.study_instance_uid,
                    reason=reason,
                )

    def _apply(self, upload: Upload, verdict: Verdict, trouble_at: int) -> Result:
        file = upload.file
        match verdict:
            case Stored():
                self._metrics.seconds.observe(max(0.0, self._clock() - file.stable_at))
                file.settled = Settlement("stored", known=upload.instance.known)
                newest = Result(file, End.NEWEST, sent=True, stored=True)
                return newest if file.overtaken else self._file(file, sent=True, stored=True)
            case Failed(reason, text):
                file.settled = Settlement("failed", reason, text, upload.instance.known)
                return self._file(file, sent=True)
            case Wait() | Alone():
                file.trouble_at = trouble_at
                return Result(file, End.WAIT if isinstance(verdict, Wait) else End.ALONE, sent=True)
            case Stuck(reason):
                return self._stuck(file, reason)

    def _stuck(self, file: WaitingFile, reason: str, *, sent: bool = True) -> Result:
        others_stored = self._health.stores_since(file.trouble_at or 0)
        file.processing_failures += reason == "processing-failure"
        file.trouble_at = self._health.sent
        file.alone = True
        if self._holding.note(file, stuck=True):
            _log.warning("files of a clinic are stuck", clinic=file.clinic_id, reason=reason)
        # While nothing at all is stored this need not be the file's fault.
        delay = _QUIET_SECONDS
        if others_stored:
            attempts = file.attempt("stuck" if sent else "asking-archive")
            delay = exponential(attempts, first=1.0, cap=_STUCK_CAP_SECONDS)
        return Result(file, End.LATER, sent=sent, delay=delay)

    def _after_source_change(self, upload: Upload, *, alone: bool) -> Result:
        """The request was broken off because a file of it changed or could not be read; which one?"""
        self._health.archive.cancel()
        file = upload.file
        try:
            unchanged = upload.instance.is_still(file.identity)
        except OSError:
            unchanged = True
        if not unchanged:
            return Result(file, End.CHANGED, sent=True)
        return (
            self._blocked(file, "unreadable", None, sent=True)
            if alone
            else Result(file, End.ALONE, sent=True)
        )

    def _blocked(
        self, file: WaitingFile, reason: str, errno: int | None, *, sent: bool = False, stored: bool = False
    ) -> Result:
        if self._holding.note(file, blocked=reason):
            _log.warning("files of a clinic wait", clinic=file.clinic_id, reason=reason, errno=errno)
        delay = exponential(file.attempt(reason), first=1.0, cap=_MOVE_CAP_SECONDS)
        return Result(file, End.LATER, sent=sent, stored=stored, delay=delay)

    def _file(self, file: WaitingFile, *, sent: bool = False, stored: bool = False) -> Result:
        if file.settled is None:
            raise AssertionError("only a settled file is filed")
        if not self._is_ours(file.clinic_id):
            return Result(file, End.LATER, sent=sent, stored=stored, delay=_UNLOCKED_SECONDS)
        try:
            placed = self._filer.file(file, file.settled)
        except GoneError:
            return Result(file, End.GONE, sent=sent, stored=stored)
        except MoveError:
            return Result(file, End.CHANGED, sent=sent, stored=stored)
        except OSError as error:
            return self._blocked(file, "not-movable", error.errno, sent=sent, stored=stored)
        if file.settled.outcome == "stored":
            self._filed.add(file, placed)
        return Result(file, End.FILED, sent=sent, stored=stored)
