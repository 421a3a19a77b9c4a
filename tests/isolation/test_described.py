"""What the platform answers is what it publishes, whatever is made of its description."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openapi import PATH, description
from support import described
from support.platform import LENT, MINE, MINE_TOO, THEIRS

if TYPE_CHECKING:
    from schemathesis import APIOperation

    from support.marked import MarkedStudy
    from support.platform import Platform

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.timeout(300)]
SUMMARIES = [described.name(each) for each in described.operations(description())]


def place(study: MarkedStudy) -> dict[str, str]:
    uids = {"study": str(study.study), "series": str(study.series()), "instance": str(study.instance())}
    return uids | {"frames": "1", "frame": "1", "bulk": "7fe00010", "StudyInstanceUID": str(study.study)}


KNOWN = [place(each) for each in (MINE, MINE_TOO, LENT, THEIRS)]


@pytest.fixture(scope="module")
def published(sqlite_platform: Platform) -> dict[str, APIOperation]:
    """As nginx hands it out, without a token."""
    answer = sqlite_platform.ask(PATH, who="")
    assert answer.status == 200
    return {described.name(each): each for each in described.operations(json.loads(answer.body))}


def test_nothing_else_is_published(published: dict[str, APIOperation]) -> None:
    assert sorted(published) == sorted(SUMMARIES)


@pytest.mark.parametrize("summary", SUMMARIES)
def test_each_answer_is_a_described_one(
    summary: str, published: dict[str, APIOperation], platform: Platform
) -> None:
    operation = published[summary]

    def check(asked: described.Asked, who: str) -> None:
        lines = [] if asked.accept is None else [f"Accept: {asked.accept}"]
        answer = platform.ask(asked.target, who, asked.method, *lines)
        described.check(operation, answer.status, answer.header("Content-Type"))
        assert not platform.leaked(answer, who)

    for asked in described.offered(operation, KNOWN[:1]):
        check(asked, "nora")
    people = st.sampled_from(("nora", "sam", "ada", "rita", "noel", ""))
    described.thorough(40)(given(described.requests(operation, KNOWN), people)(check))()
