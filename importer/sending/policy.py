"""What an answer of the archive means for one file: the rules of patience in one place.

Only an answer about the very file fails it. Whatever else the archive, a proxy before it or the network
says is about them, and files wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs.archive import ArchiveUnavailableError, RequestTooLargeError, StoreAnswer

if TYPE_CHECKING:
    from pacs.ids import Uid

OUT_OF_RESOURCES = range(0xA700, 0xA800)
PROCESSING_FAILURE = 0x0110
"""PS3.18 table I.2-2. Orthanc says 0x0110 of a disk that is full (measured, 1.12)."""

_REFUSED = frozenset({400, 409})
REASONS = {
    PROCESSING_FAILURE: "processing-failure",
    0x0122: "sop-class-not-supported",
    0x0124: "not-authorized",
    0xA900: "data-set-does-not-match-sop-class",
    0xC000: "cannot-understand",
    0xC122: "transfer-syntax-not-supported",
}
_REASONS_BY_CLASS = ((0xFF00, 0xA900), (0xF000, 0xC000))
"""A9xx and Cxxx (PS3.18 table I.2-2) mean what the first of them does; as mask and that first one."""
WARNINGS = {
    0xB000: "elements-coerced",
    0xB006: "elements-discarded",
    0xB007: "data-set-does-not-match-sop-class",
}
"""PS3.18 table I.2-1; any other is `OTHER_WARNING`."""
OTHER_WARNING = "other"
REFUSED, NOT_CONFIRMED, SUPERSEDED = "refused-by-archive", "not-confirmed", "superseded"


@dataclass(frozen=True)
class Situation:
    """How the file was sent and what was said of it before.

    Attributes:
        alone: it was the only one in the request.
        others_stored: the archive stored other files, sent since this one's last trouble, or since it was.
        processing_failures: how often it met 0x0110.
        stuck: it met such trouble alone while others were stored: it need not be the archive's again.
    """

    alone: bool = False
    others_stored: bool = False
    processing_failures: int = 0
    stuck: bool = False


@dataclass(frozen=True)
class Stored:
    """The archive has it."""


@dataclass(frozen=True)
class Failed:
    """The archive will never take it."""

    reason: str
    text: str


@dataclass(frozen=True)
class Wait:
    """Nobody takes anything now: wait for the archive."""

    reason: str


@dataclass(frozen=True)
class Alone:
    """Send it again, alone, at once: somebody else in its request may be to blame."""

    reason: str


@dataclass(frozen=True)
class Stuck:
    """Send it again, alone, after a back-off of its own."""

    reason: str


Verdict = Stored | Failed | Wait | Alone | Stuck


def judge(said: StoreAnswer | ArchiveUnavailableError, uid: Uid, situation: Situation) -> Verdict:
    """The verdict on the instance `uid`."""
    if isinstance(said, ArchiveUnavailableError):
        return judge_silence(said, situation)
    if uid in said.stored:
        return Stored()
    if uid in said.failures:
        return _judge_failure(said, said.failures[uid], situation)
    if said.other_failures:
        return _judge_unnamed(said, situation)
    return _judge_unlisted(said, situation)


def judge_silence(error: ArchiveUnavailableError, situation: Situation) -> Wait | Alone | Stuck:
    """The verdict on a file about which the archive said nothing."""
    # 413 is about the size of the request, not about the archive's health.
    is_the_files = situation.others_stored or isinstance(error, RequestTooLargeError)
    if not is_the_files and (error.reason == "unreachable" or not situation.stuck):
        return Wait(error.reason)
    return Stuck(error.reason) if situation.alone else Alone(error.reason)


def _judge_failure(answer: StoreAnswer, code: int | None, situation: Situation) -> Verdict:
    others_stored = situation.others_stored or bool(answer.stored)
    if code in OUT_OF_RESOURCES:
        if not (others_stored or situation.stuck):
            return Wait("storage-full")
        return Stuck("storage-full") if situation.alone else Alone("storage-full")
    if code == PROCESSING_FAILURE and not (situation.processing_failures and others_stored):
        several = len(answer.failures) > 1 and not others_stored
        return Wait("processing-failure") if several else Stuck("processing-failure")
    return Failed(_reason(code or 0), _text(code))


def _reason(code: int) -> str:
    by_class = (REASONS[first] for mask, first in _REASONS_BY_CLASS if code & mask == first)
    return REASONS.get(code) or next(by_class, REFUSED)


def _text(code: int | None) -> str:
    said = "without a reason" if code is None else f"with FailureReason 0x{code:04X}"
    return f"The archive refused the instance {said}."


def _judge_unnamed(answer: StoreAnswer, situation: Situation) -> Verdict:
    """The archive could not tell which of the request's files it refused: this may be one of them."""
    if situation.alone or all(code in OUT_OF_RESOURCES for code in answer.other_failures):
        return _judge_failure(answer, answer.other_failures[0], situation)
    return Alone(f"status-{answer.status}")


def _judge_unlisted(answer: StoreAnswer, situation: Situation) -> Verdict:
    if answer.status in _REFUSED:
        if not situation.alone:
            return Alone(f"status-{answer.status}")
        return Failed(REFUSED, f"The archive answered {answer.status} to the file alone.")
    # That says nothing about the file, however often it comes: it is no reason to give an image up.
    if not (situation.others_stored or answer.stored or situation.stuck):
        # Orthanc answers 200 and lists nothing at all when its disk is full (measured, 1.10).
        return Wait(NOT_CONFIRMED)
    return Stuck(NOT_CONFIRMED) if situation.alone else Alone(NOT_CONFIRMED)
