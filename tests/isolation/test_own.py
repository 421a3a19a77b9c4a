"""What is one's own is there in every form, and bears its mark: so the suite sees what it looks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.marked import marks_in
from support.platform import ENTITLED, LENT, MINE, PEOPLE, STRAY, THEIRS

if TYPE_CHECKING:
    from support.marked import MarkedStudy
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
FORMS = [
    ("", "multipart/related; type=application/dicom; transfer-syntax=*"),
    ("", "application/dicom; transfer-syntax=*"),
    ("/metadata", ""),
    ("/frames/1", OCTETS),
    ("/frames/1", "application/octet-stream"),
    ("/frames/1,2", OCTETS),
    ("/frames/1", 'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80'),
    ("/frames/1/rendered", "image/jpeg"),
    ("/rendered", "image/png"),
    ("/rendered?viewport=64,64", "image/jpeg"),
    ("/thumbnail", ""),
    ("/bulk/7fe00010", OCTETS),
    ("/bulk/7fe00010", "application/octet-stream"),
]


@pytest.mark.parametrize(("tail", "accept"), FORMS)
@pytest.mark.parametrize(("who", "study"), [("nora", MINE), ("sam", THEIRS), ("nora", LENT), ("rita", STRAY)])
def test_one_sees_ones_own_in_every_form(
    who: str, study: MarkedStudy, tail: str, accept: str, platform: Platform
) -> None:
    answer = platform.dicom(f"{study.path()}{tail}", who, accept)
    assert answer.status == 200
    assert marks_in(answer.body) == {study.mark}


@pytest.mark.parametrize(
    "path",
    [
        f"/studies/{MINE.study}{series}{tail}"
        for series in ("", f"/series/{MINE.series('CT')}")
        for tail in ("/series", "", "/instances", "/metadata", "/rendered", "/thumbnail")
        if series or tail not in {"/rendered", "/thumbnail"}
        if not series or tail != "/series"
    ],
)
def test_one_sees_ones_own_on_every_level(path: str, any_platform: Platform) -> None:
    answer = any_platform.dicom(path)
    assert (answer.status, marks_in(answer.body)) == (200, {MINE.mark})


@pytest.mark.parametrize("who", [*PEOPLE, ""])
def test_everybodys_list_holds_what_they_may_see_and_nothing_else(who: str, any_platform: Platform) -> None:
    answer = any_platform.dicom("/studies", who)
    # A stray study is in no catalog, and so in no list.
    assert marks_in(answer.body) == ENTITLED[who] - {STRAY.mark}
    assert answer.status == (200 if ENTITLED[who] else 403 if who in {"noel", "cleo"} else 401)
    if answer.status == 200:
        found = {each["0020000D"]["Value"][0] for each in json.loads(answer.body)}
        assert len(found) >= len(ENTITLED[who] - {STRAY.mark})


def test_a_packed_answer_is_looked_into(platform: Platform) -> None:
    answer = platform.ask("/dicom-web/studies", "sam", "GET", "Accept-Encoding: gzip")
    assert answer.header("Content-Encoding") == "gzip"
    assert marks_in(answer.body) == {THEIRS.mark, LENT.mark}


def test_a_document_bears_its_mark(platform: Platform) -> None:
    for accept in ("application/pdf", "application/octet-stream", OCTETS):
        answer = platform.dicom(f"{THEIRS.path('PDF')}/bulk/00420011", "sam", accept)
        assert (answer.status, marks_in(answer.body)) == (200, {THEIRS.mark})
