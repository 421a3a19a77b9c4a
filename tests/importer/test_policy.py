"""What an answer means for a file: the table of DESIGN's step 9."""

from __future__ import annotations

import pytest

from importer.sending.policy import (
    Alone,
    Failed,
    Situation,
    Stored,
    Stuck,
    Verdict,
    Wait,
    judge,
)
from pacs.archive import ArchiveUnavailableError, RequestTooLargeError, StoreAnswer
from pacs.ids import Uid

MINE, OTHER = Uid("1.2"), Uid("1.3")
FRESH, ALONE = Situation(), Situation(alone=True)
OTHERS, ALONE_OTHERS = Situation(others_stored=True), Situation(alone=True, others_stored=True)

SILENCES = ["unreachable", "timeout", "interrupted", "redirect", "not-dicom-json"]
SILENCES += [f"status-{status}" for status in (401, 403, 404, 429, 500, 502, 503, 504, 507)]


@pytest.mark.parametrize("reason", SILENCES)
def test_no_answer_fails_no_file(reason: str) -> None:
    error = ArchiveUnavailableError(reason)
    assert judge(error, MINE, FRESH) == Wait(reason)
    assert judge(error, MINE, ALONE) == Wait(reason)
    assert judge(error, MINE, OTHERS) == Alone(reason)
    assert judge(error, MINE, ALONE_OTHERS) == Stuck(reason)


def test_too_large_a_request_is_about_its_size() -> None:
    error = RequestTooLargeError()
    assert judge(error, MINE, FRESH) == Alone("status-413")
    assert judge(error, MINE, ALONE) == Stuck("status-413")


def listed(status: int, *, stored: bool = False, code: int | None = -1, others: bool = False) -> StoreAnswer:
    return StoreAnswer(
        status,
        frozenset(({MINE} if stored else set()) | ({OTHER} if others else set())),
        {} if code == -1 else {MINE: code},
    )


@pytest.mark.parametrize(
    ("answer", "situation", "verdict"),
    [
        # listed as stored, whatever the status of the whole request
        (listed(200, stored=True), FRESH, Stored()),
        (listed(202, stored=True), FRESH, Stored()),
        (listed(400, stored=True), FRESH, Stored()),
        (listed(409, stored=True), ALONE, Stored()),
        # listed as failed: at once, alone or not
        (listed(202, code=0xC000), FRESH, "cannot-understand"),
        (listed(409, code=0xA900), ALONE, "data-set-does-not-match-sop-class"),
        (listed(409, code=0x0122), ALONE, "sop-class-not-supported"),
        (listed(409, code=None), ALONE, "refused-by-archive"),
        (listed(409, code=0xDEAD), ALONE, "refused-by-archive"),
        # each class of codes means one thing
        (listed(202, code=0xA9FF), FRESH, "data-set-does-not-match-sop-class"),
        (listed(202, code=0xC1FF), FRESH, "cannot-understand"),
        (listed(202, code=0xC122), FRESH, "transfer-syntax-not-supported"),
        # out of resources: never
        (listed(409, code=0xA700), FRESH, Wait("storage-full")),
        (listed(409, code=0xA700), ALONE, Wait("storage-full")),
        (listed(409, code=0xA702), ALONE, Wait("storage-full")),
        (listed(202, code=0xA7FF), FRESH, Wait("storage-full")),
        (listed(202, code=0xA700, others=True), FRESH, Alone("storage-full")),
        (listed(409, code=0xA700), ALONE_OTHERS, Stuck("storage-full")),
        # 0x0110: a full disk, unless it comes again while others are stored
        (listed(409, code=0x0110), FRESH, Stuck("processing-failure")),
        (listed(409, code=0x0110), Situation(alone=True, processing_failures=5), Stuck("processing-failure")),
        (listed(409, code=0x0110), ALONE_OTHERS, Stuck("processing-failure")),
        (
            listed(409, code=0x0110),
            Situation(alone=True, others_stored=True, processing_failures=1),
            "processing-failure",
        ),
        # not listed at all
        (listed(400), FRESH, Alone("status-400")),
        (listed(409), FRESH, Alone("status-409")),
        (listed(400), ALONE, "refused-by-archive"),
        (listed(409), ALONE, "refused-by-archive"),
        # by a 2xx: Orthanc says that of everything when its disk is full
        (listed(200), FRESH, Wait("not-confirmed")),
        (listed(200), ALONE, Wait("not-confirmed")),
        (listed(202, others=True), FRESH, Alone("not-confirmed")),
        # of the file alone it is never said often enough to fail it
        (listed(200), ALONE_OTHERS, Stuck("not-confirmed")),
        (listed(200), Situation(alone=True, stuck=True), Stuck("not-confirmed")),
    ],
)
def test_an_answer_about_the_file(answer: StoreAnswer, situation: Situation, verdict: Verdict | str) -> None:
    found = judge(answer, MINE, situation)
    assert (found.reason if isinstance(verdict, str) and isinstance(found, Failed) else found) == verdict


def test_an_archive_that_refuses_a_whole_batch_with_0110_is_full() -> None:
    answer = StoreAnswer(409, frozenset(), {MINE: 0x0110, OTHER: 0x0110})
    assert judge(answer, MINE, FRESH) == Wait("processing-failure")


@pytest.mark.parametrize(
    ("codes", "situation", "verdict"),
    [
        ([0xC000], ALONE, "cannot-understand"),
        ([None], ALONE, "refused-by-archive"),
        ([0xC000], FRESH, Alone("status-409")),
        ([0xA700, 0xC000], FRESH, Alone("status-409")),
        # nobody's file is to blame when all of them say that the archive is full
        ([0xA700], ALONE, Wait("storage-full")),
        ([0xA700, 0xA701], FRESH, Wait("storage-full")),
    ],
)
def test_an_instance_that_the_archive_cannot_name(
    codes: list[int | None], situation: Situation, verdict: Verdict | str
) -> None:
    found = judge(StoreAnswer(409, frozenset(), {}, tuple(codes)), MINE, situation)
    assert (found.reason if isinstance(verdict, str) and isinstance(found, Failed) else found) == verdict
