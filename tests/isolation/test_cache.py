"""What one person's request has put into the cache is for nobody who may not read it, in no form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import JPEGLSLossless
from sqlalchemy import update

from pacs.catalog.schema import studies
from support.importing import wait_until
from support.marked import marks_in
from support.platform import LENT, MINE, THEIRS

if TYPE_CHECKING:
    from support.platform import Platform
    from support.wire import Answer

pytestmark = pytest.mark.xdist_group("isolation")
OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
CACHED = [
    (f"{THEIRS.path()}/frames/1", OCTETS),
    (f"{THEIRS.path()}/frames/2", 'multipart/related; type="application/octet-stream"'),
    (f"{THEIRS.path('CT')}/frames/1", f'{OCTETS[:18]}type="image/jls"; transfer-syntax={JPEGLSLossless}'),
    (f"{THEIRS.path()}/rendered?viewport=64,64", "image/png"),
    (f"{THEIRS.path()}/thumbnail", "image/jpeg"), (f"{THEIRS.path()}/metadata", "application/dicom+json"),
    (f"/studies/{THEIRS.study}/metadata", ""), (f"{THEIRS.path('PDF')}/bulk/00420011", OCTETS),
    (THEIRS.path(), "multipart/related; type=application/dicom; transfer-syntax=*"),
]  # fmt: skip
AGAIN = [
    "", "Range: bytes=0-99", "Range: bytes=-1", "If-None-Match: *",
    "If-Modified-Since: Sat, 21 Nov 2099 00:00:00 GMT", "If-Modified-Since: Sat, 21 Nov 1999 00:00:00 GMT",
    "If-Unmodified-Since: Sat, 21 Nov 2099 00:00:00 GMT", "If-Range: x\r\nRange: bytes=0-99",
    "Cache-Control: only-if-cached", "Accept-Encoding: gzip", "X-Accel-Redirect: /_archive/1/x",
    "X-Accel-Expires: 0",
]  # fmt: skip


def hits(platform: Platform) -> int:
    return sum('"cache":"HIT"' in line for line in platform.access_log)


@pytest.mark.parametrize(("path", "accept"), CACHED)
def test_what_sam_has_fetched_nora_does_not_get(path: str, accept: str, any_platform: Platform) -> None:
    before = hits(any_platform)
    first = [any_platform.dicom(path, "sam", accept) for _ in range(2)]
    assert [(each.status, marks_in(each.body)) for each in first] == [(200, {THEIRS.mark})] * 2
    # nginx writes its line after the answer.
    wait_until(lambda: hits(any_platform) > before)
    for line in AGAIN:
        for method in ("GET", "HEAD"):
            lines = [each for each in (f"Accept: {accept}" if accept else "", line) if each]
            answer = any_platform.ask(f"/dicom-web{path}", "nora", method, *lines)
            assert answer.status == 404, (line, method)
            assert not any_platform.leaked(answer, "nora")
    assert hits(any_platform) <= before + 2


@pytest.mark.parametrize(
    "accept", ["", "*/*", "multipart/related", "application/octet-stream", "image/jpeg", "x/y"]
)
def test_no_other_form_of_it_either(accept: str, platform: Platform) -> None:
    path = f"{THEIRS.path()}/frames/1"
    assert platform.dicom(path, "sam", OCTETS).status == 200
    answer = platform.dicom(path, "nora", accept)
    assert answer.status in {404, 406}
    assert not platform.leaked(answer, "nora")


def test_a_share_that_ends_closes_what_the_cache_holds(any_platform: Platform) -> None:
    path = f"{LENT.path()}/frames/1"
    assert any_platform.dicom(path, "nora", OCTETS).status == 200
    with any_platform.unshared(LENT.study):
        answer = any_platform.dicom(path, "nora", OCTETS)
        assert (answer.status, any_platform.dicom(path, "sam", OCTETS).status) == (404, 200)
        assert not marks_in(answer.body)
    assert any_platform.dicom(path, "nora", OCTETS).status == 200


def test_the_owners_next_revision_is_another_entry_of_the_cache(any_platform: Platform) -> None:
    path = f"{MINE.path()}/frames/1"
    assert any_platform.dicom(path, "nora", OCTETS).status == 200
    before = hits(any_platform)
    assert any_platform.dicom(path, "nora", OCTETS).status == 200
    wait_until(lambda: hits(any_platform) == before + 1)
    with any_platform.site.catalog.write() as connection:
        connection.execute(
            update(studies).where(studies.c.study_uid == MINE.study).values(revision=studies.c.revision + 1)
        )
    assert any_platform.dicom(path, "nora", OCTETS).status == 200
    # The next hit is the only one since.
    assert any_platform.dicom(path, "nora", OCTETS).status == 200
    wait_until(lambda: hits(any_platform) == before + 2)


def test_no_answer_may_be_kept_by_anyone_between_or_by_the_browser(platform: Platform) -> None:
    for path, accept in CACHED:
        for who in ("sam", "nora", ""):
            answer = platform.dicom(path, who, accept)
            assert kept_by(answer) == {"private", "no-store"}
            assert not any(answer.header(name) for name in ("ETag", "Last-Modified", "Expires"))


def kept_by(answer: Answer) -> set[str]:
    return set(re.split(r",\s*", answer.header("Cache-Control")))


def test_a_range_or_a_condition_of_one_does_not_become_the_answer_of_another(platform: Platform) -> None:
    path = f"/dicom-web{MINE.path('CT', 2)}/frames/1"
    part = platform.ask(path, "nora", "GET", f"Accept: {OCTETS}", "Range: bytes=0-9")
    whole = platform.ask(path, "ada", "GET", f"Accept: {OCTETS}")
    head = platform.ask(path, "nora", "HEAD", f"Accept: {OCTETS}")
    assert (part.status, len(part.body)) == (206, 10)
    assert (whole.status, marks_in(whole.body)) == (200, {MINE.mark})
    assert whole.body.startswith(part.body)
    assert head.header("Content-Length") == str(len(whole.body))


def test_a_range_beyond_the_end_and_a_failed_condition_are_told_as_such(platform: Platform) -> None:
    path = f"/dicom-web{MINE.path()}/frames/1"
    assert platform.ask(path, "nora", "GET", "Range: bytes=9999999-").status == 416
    assert (
        platform.ask(path, "nora", "GET", "If-Unmodified-Since: Sat, 21 Nov 1999 00:00:00 GMT").status == 412
    )
