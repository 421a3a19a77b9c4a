"""Thousands of requests put together from the pieces that attacks are made of, by a seed the same each time.

ISOLATION_SWEEP sets how many, ISOLATION_SEED others than ever.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from support.marked import marks_in
from support.platform import ENTITLED, LENT, MINE, MINE_TOO, NOWHERE, STRAY, THEIRS
from support.wire import BrokenAnswerError, loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.marked import MarkedStudy
    from support.platform import Platform
    from support.wire import Answer, Wire

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.timeout(300)]
COUNT = int(os.environ.get("ISOLATION_SWEEP", "20000"))
SEED = int(os.environ.get("ISOLATION_SEED", "20260102"))
_A_CONNECTION = 120

STUDIES = (MINE, MINE_TOO, THEIRS, THEIRS, LENT, STRAY, NOWHERE)
PEOPLE = ("nora", "nora", "nora", "sam", "noel", "cleo", "gwen", "")
TAILS = (
    "", "/metadata", "/frames/1", "/frames/1,2", "/frames/1/rendered", "/rendered", "/thumbnail",
    "/bulk/7fe00010", "/bulk/00420011", "/bulk/54000100/1/54001010", "/frames/1/thumbnail",
    "/bulk/00100010", "/frames/2",
)  # fmt: skip
ROOTS = ("/dicom-web",) * 24 + (
    "/dicom-web/", "//dicom-web", "/dicom-web/.", "/x/../dicom-web", "/orthanc/dicom-web", "/orthanc",
    "/Dicom-Web", "", "/dicom-web/studies/../..", "/_archive/1/multipart,application,octet-stream,any",
    "/_archive/2/single,image,jpeg", "/auth/..//dicom-web", "/dicom-web%2f..%2fdicom-web", "/dicom-web;x",
)  # fmt: skip
SLASHES = ("/",) * 25 + (
    "%2F",
    "%2f",
    "%5C",
    "\\",
    "//",
    "/./",
    "/x/../",
    "/%2e/",
    "/..;/",
    "%252F",
    "/..%2F",
    "%00/",
    "/%20",
)
MATCHED = (
    "StudyInstanceUID", "0020000D", "0020000d", "0020,000D", "%30020000D", "SeriesInstanceUID", "0020000E",
    "SOPInstanceUID", "00080018", "PatientID", "PatientName", "00100010", "InstitutionName", "00080080",
    "ModalitiesInStudy", "AccessionNumber", "StudyDescription", "StudyDate", "limit", "offset",
    "includefield", "fuzzymatching", "accept", "_method", "viewport", "clinic", "multiplevaluematching",
    "emptyvaluematching", "Modality", "x",
)  # fmt: skip
LINES = (
    "X-Accel-Redirect: /_archive/1/x", "X-Original-URL: /dicom-web/studies",
    "X-HTTP-Method-Override: DELETE", "X-Forwarded-User: sam", "Range: bytes=0-9", "Range: bytes=0-",
    "If-None-Match: *", "Accept-Encoding: gzip", "Accept: */*", "Accept: image/png",
    "Accept: application/pdf", "Accept: application/octet-stream", "Accept: text/html",
    'Accept: multipart/related; type="application/octet-stream"; transfer-syntax=*',
    "Accept: multipart/related", 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*',
    "Accept: application/dicom+json", "Cookie: explorer=1", "Host: attacker.example",
    "Connection: Authorization", "Forwarded: host=x", "X-Forwarded-Host: x", "Content-Length: 0",
    "Upgrade: h2c", "Cache-Control: only-if-cached",
)  # fmt: skip
METHODS = ("GET",) * 14 + ("HEAD", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "TRACE")


@dataclass(frozen=True)
class Attack:
    """One request; `pure` is the study that it asks for, if that is one alone and it is spelled plainly."""

    who: str
    method: str
    target: str
    lines: tuple[str, ...]
    pure: MarkedStudy | None


def spelled(chance: random.Random, text: str) -> str:
    """Some of the ways to write a segment."""
    ways: Sequence[Callable[[], str]] = (
        lambda: text.replace(".", "%2e"),
        lambda: re.sub("[0-9]", lambda found: f"%3{found[0]}", text, count=1),
        lambda: re.sub("[0-9]", lambda found: f"%253{found[0]}", text, count=1),
        lambda: f"{text}\\{chance.choice(STUDIES).study}",
        lambda: f"{text}%5C{chance.choice(STUDIES).study}",
        lambda: f"{text},{chance.choice(STUDIES).study}",
        lambda: f"{text}%2C{chance.choice(STUDIES).study}",
        lambda: f"{text}%5C..%5C{chance.choice(STUDIES).study}",
        lambda: f"{text}%2F..%2F{chance.choice(STUDIES).study}",
        lambda: f"{text}/../{chance.choice(STUDIES).study}",
        lambda: f"{chance.choice(STUDIES).study}/..%5C{text}",
        lambda: (
            text + chance.choice(["%00", "%20", " ", "%0a", ".", "*", "?", "#", ";", "%ff", "\t", "%09", "&"])
        ),
        lambda: chance.choice(["%20", ".", "*", "0", "%2e%2e", "..", "~", "\\", "+", "-"]) + text,
        lambda: chance.choice(["*", "", "..", ".", "%2e%2e", "2.25.*", "%2a", "null", "-1", "0"]),
    )
    return chance.choice(ways)()


def query(chance: random.Random, study: MarkedStudy) -> str:
    values = (
        study.study, study.series(), study.instance(), study.mark.word, f"*{study.mark.word}*", "*", "", "US",
        f"{MINE.study},{study.study}", f"{MINE.study}%5C{study.study}", "southside", "northside%5Csouthside",
        "all", "true", "1000", "0", quote(f"' OR 1=1 -- {study.study}"), "19000101-20991231", "DELETE",
        "256,256",
        f"x%26StudyInstanceUID={study.study}",
    )  # fmt: skip
    pairs = [f"{chance.choice(MATCHED)}={chance.choice(values)}" for _ in range(chance.randint(1, 4))]
    return f"?{chance.choice(['&', '&', '&', ';', '&&', '%26']).join(pairs)}"


def attack(chance: random.Random) -> Attack:
    study, series, instance = (chance.choice(STUDIES) for _ in range(3))
    if chance.random() < 0.5:
        series = instance = study
    modality = chance.choice(["US", "US", "CT", "PDF", "SR"])
    picked = modality if all(modality in each.modalities for each in (series, instance)) else "US"
    segments = [
        "studies",
        study.study,
        "series",
        series.series(picked),
        "instances",
        instance.instance(picked),
    ]
    depth = chance.choice([0, 1, 2, 2, 3, 4, 5, 6, 6, 6, 6])
    segments = segments[: max(depth, 1)]
    tail = chance.choice(TAILS) if depth in {2, 4, 6} else ""
    root, method = chance.choice(ROOTS), chance.choice(METHODS)
    slash = chance.choice(SLASHES)
    is_odd = chance.random() < 0.35
    if is_odd:
        place = chance.randrange(len(segments))
        segments[place] = spelled(chance, segments[place])
    path = root + "/" + slash.join(segments) + tail
    asked = query(chance, chance.choice(STUDIES)) if chance.random() < 0.4 else ""
    lines = tuple(chance.sample(LINES, chance.choice([0, 0, 1, 2, 3])))
    plain = root == "/dicom-web" and slash == "/" and not is_odd and depth >= 2 and method in {"GET", "HEAD"}
    whole = plain and all(each is study for each in (series, instance)[: max(0, (depth - 2) // 2)])
    return Attack(
        chance.choice(PEOPLE),
        method,
        path + asked,
        lines,
        study if whole and not asked and not lines else None,
    )


def judge(platform: Platform, made: Attack, answer: Answer) -> None:
    found = platform.leaked(answer, made.who)
    assert not found, f"leaked {found}: {made}"
    if made.pure and made.who and ENTITLED[made.who] and made.pure.mark not in ENTITLED[made.who]:
        assert answer.status in {404, 406}, made
    if answer.status in {200, 206} and answer.header("Content-Type").startswith(
        ("multipart", "image", "application/dicom")
    ):
        # Whatever is given out is somebody's; nobody's would be a mark that was not recognised.
        assert ENTITLED[made.who], made
        assert (
            answer.status == 206
            or made.method == "HEAD"
            or answer.body.strip() in {b"", b"[]"}
            or _is_marked(answer)
        ), made


def _is_marked(answer: Answer) -> bool:
    return bool(marks_in(answer.body))


def send(platform: Platform, wire: Wire, made: Attack) -> Answer | None:
    """Its answer; None when nginx refused it without one."""
    try:
        wire.send(platform.request(made.target, made.who, made.method, *made.lines))
        return wire.answer(made.method)
    except (BrokenAnswerError, ConnectionError):
        return None


def test_no_combination_leaks(platform: Platform) -> None:
    chance = random.Random(SEED)
    statuses: dict[int, int] = {}
    wire, left = None, 0
    for number in range(COUNT):
        made = attack(chance)
        if wire is None or not left:
            if wire:
                wire.__exit__()
            wire, left = platform.wire(loopback(random.Random(number))).__enter__(), _A_CONNECTION
        left -= 1
        answer = send(platform, wire, made)
        if answer is None:
            left = 0
            continue
        judge(platform, made, answer)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.header("Connection") == "close" or answer.status in {400, 413, 414}:
            left = 0
    if wire:
        wire.__exit__()
    print(f"{COUNT} attacks: {dict(sorted(statuses.items()))}")  # noqa: T201 - shown by -s, and of a failure
    # That some succeed with what is one's own, and most do not, shows that they were attacks at all.
    assert statuses[200] > COUNT // 50
    assert statuses[404] > COUNT // 5
    assert not {429, 500} & set(statuses)
