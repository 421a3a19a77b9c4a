"""Studies that the catalog does not know, while the archive is asked whose they are.

Each is asked about once for a clinic, by one of its files; the others wait for that one's answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from importer.reading.batch import Batch, Upload
    from importer.reading.holding import Holding
    from importer.work import Settlement, WaitingFile
    from pacs.ids import ClinicId, Uid

    Key = tuple[ClinicId, Uid | None]

_REFUSAL_SECONDS = 30.0
"""How long a refusal answers for other files of its study, too."""


class _Question(NamedTuple):
    asker: WaitingFile
    asked_at: float
    waiting: list[WaitingFile]


class _Refused(NamedTuple):
    asked_at: float
    told_at: float
    settled: Settlement


class UnknownStudies:
    """State of the reader's thread. Times are of the monotonic clock, in seconds."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._open: dict[Key, _Question] = {}
        self._refused: dict[Key, _Refused] = {}

    def take(self, file: WaitingFile, batch: Batch, now: float) -> None:
        """The study of this file is unknown: the batch has it moved or asked about, or it is kept here."""
        key = _key(file)
        question = self._open.get(key) or _Question(file, now, [])
        if self._settle_if_refused(file, now):
            batch.moves.append(file)
        elif question.asker is file:
            self._open[key] = question._replace(asked_at=now)
            batch.look_ups.append(file)
        else:
            question.waiting.append(file)
            self._holding.note(file, blocked="asking-archive")

    def answered(self, file: WaitingFile, now: float) -> list[WaitingFile]:
        """The archive has said whose the study is: the files that waited, settled like this one if it is."""
        question = self._open.get(_key(file))
        if question is None or question.asker is not file:
            return []
        if file.settled is not None:
            self._refused = {key: told for key, told in self._refused.items() if _is_recent(told, now)}
            self._refused[_key(file)] = _Refused(question.asked_at, now, file.settled)
        for each in question.waiting:
            self._settle_if_refused(each, now)
        return self.give_up(file)

    def give_up(self, file: WaitingFile) -> list[WaitingFile]:
        """This file does not ask any more: those that waited for its answer, if any did."""
        question = self._open.get(_key(file))
        if question is None or question.asker is not file:
            return []
        del self._open[_key(file)]
        for each in question.waiting:
            self._holding.note(each)
        return question.waiting

    def _settle_if_refused(self, file: WaitingFile, now: float) -> bool:
        told = self._refused.get(_key(file))
        # What is put back into the inbox after the refusal is to be asked about anew.
        if told is None or not _is_recent(told, now) or file.place.seen > told.asked_at:
            return False
        file.settled = replace(told.settled, known=file.known or told.settled.known)
        return True

    def withdraw(self, clinic_id: ClinicId) -> list[WaitingFile]:
        """Forget the clinic's questions; returns the files that waited for an answer."""
        keys = [key for key in self._open if key[0] == clinic_id]
        return [file for key in keys for file in self._open.pop(key).waiting]

    @staticmethod
    def looked_up(uploads: Iterable[Upload]) -> set[Uid]:
        """The studies that may be reserved although the catalog does not know them.

        However long ago the archive was asked: until its clinic's next turn a busy platform may take long,
        and an answer that expires before would be asked for again for ever.
        """
        return {upload.instance.header.study_instance_uid for upload in uploads if upload.file.looked_up}


def _key(file: WaitingFile) -> Key:
    return file.clinic_id, file.known.study_uid if file.known else None


def _is_recent(told: _Refused, now: float) -> bool:
    return now - told.told_at < _REFUSAL_SECONDS
