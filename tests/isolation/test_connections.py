"""A connection, to nginx or behind it, never mixes the answers of two people, whatever is sent over it."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from support.marked import marks_in
from support.platform import ENTITLED, LENT, MINE, THEIRS
from support.wire import BrokenAnswerError, Wire

if TYPE_CHECKING:
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
OCTETS = 'Accept: multipart/related; type="application/octet-stream"; transfer-syntax=*'


def turns(chance: random.Random, count: int) -> list[tuple[str, str, str, str]]:
    """Requests of several people: who, method, target, a header line."""
    targets = [
        f"/dicom-web{study.path(modality)}{tail}"
        for study in (MINE, THEIRS, LENT)
        for modality, tail in (("US", "/frames/1"), ("US", "/metadata"), ("US", "/rendered"), ("PDF", ""))
    ]
    targets += ["/dicom-web/studies", "/dicom-web/nothing", f"/dicom-web/studies/{THEIRS.study}/series"]
    lines = [
        "X-Nothing: x",
        OCTETS,
        "Range: bytes=0-9",
        "Range: bytes=9999999-",
        "If-None-Match: *",
        "Accept-Encoding: gzip",
    ]
    people, methods = ["nora", "sam", "ada", "noel", "gwen", ""], ["GET", "GET", "HEAD"]
    each = (people, methods, targets, lines)
    return [tuple(map(chance.choice, each)) for _ in range(count)]  # type: ignore[misc]


def test_pipelined_requests_of_several_people_get_each_their_own_answer(any_platform: Platform) -> None:
    asked = turns(random.Random(7), 90)
    alone = {
        each: any_platform.ask(each[2], each[0], each[1], each[3]) for each in asked
    }  # what each gets over a connection of its own
    with any_platform.wire() as wire:
        wire.send(
            b"".join(any_platform.request(target, who, method, line) for who, method, target, line in asked)
        )
        for each in asked:
            answer = wire.answer(each[1])
            assert answer.status == alone[each].status, each[1:]
            assert not any_platform.leaked(answer, each[0])
            assert marks_in(answer.body) == marks_in(alone[each].body)


def test_many_people_at_once_get_each_their_own(platform: Platform) -> None:
    mixed: list[object] = []

    def read(number: int) -> None:
        chance = random.Random(number)
        try:
            with platform.wire() as wire:
                for who, method, target, line in turns(chance, 120):
                    wire.send(platform.request(target, who, method, line))
                    answer = wire.answer(method)
                    if platform.leaked(answer, who) or (answer.status == 200 and not ENTITLED[who]):
                        mixed.append((who, method, target))
        except BrokenAnswerError as error:
            mixed.append(error)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(60)
    assert not mixed
    assert not any(each.is_alive() for each in readers)


HIDDEN = "GET /dicom-web{theirs}/metadata HTTP/1.1\r\nHost: {host}\r\nX-Rest: "
CHUNKED = "5\r\nhello\r\n0\r\n\r\n"
BODIES = {
    "a length beside chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    "chunks beside a length": "Transfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n0\r\n\r\n{hidden}",
    "a length of zero and a body": "Content-Length: 0\r\n\r\n{hidden}",
    "two lengths": "Content-Length: 0\r\nContent-Length: 300\r\n\r\n{hidden}",
    "two equal lengths": "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc{hidden}",
    "a list of lengths": "Content-Length: 0, 300\r\n\r\n{hidden}",
    "a length with a sign": "Content-Length: +300\r\n\r\n{hidden}",
    "a negative length": "Content-Length: -1\r\n\r\n{hidden}",
    "a hexadecimal length": "Content-Length: 0x12c\r\n\r\n{hidden}",
    "a length that overflows": "Content-Length: 18446744073709551616\r\n\r\n{hidden}",
    "a length with a space before the colon": "Content-Length : 0\r\n\r\n{hidden}",
    "chunks with a space before the colon": "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}",
    "chunks behind a tab": "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{hidden}",
    "chunks behind a control character": "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}",
    "another coding of nearly that name": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}",
    "chunks and identity": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}",
    "chunks twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{hidden}",
    "chunks in capitals": "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n{hidden}",
    "chunks in quotes": 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n{hidden}',
    "chunks with underscores": "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    "a chunk with an extension": 'Transfer-Encoding: chunked\r\n\r\n0;x="\r\n\r\n{hidden}',
    "a chunk whose size overflows": "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{hidden}",
    "a chunk with a negative size": "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}",
    "chunks with bare line feeds": "Transfer-Encoding: chunked\n\n0\n\n{hidden}",
    "a trailer that is a request": "Transfer-Encoding: chunked\r\n\r\n0\r\n{hidden}",
    "whole chunks": "Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + "{hidden}",
    "a folded header": "X-Folded: a\r\n Transfer-Encoding: chunked\r\n\r\n{hidden}",
    "a bare carriage return": "X-Bare: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    "a bare line feed": "X-Bare: a\nContent-Length: 300\r\n\r\n{hidden}",
    "a null": "X-Null: a\x00b\r\nContent-Length: 0\r\n\r\n{hidden}",
    "a line without a colon": "Content-Length 300\r\n\r\n{hidden}",
    "an empty name": ": x\r\nContent-Length: 0\r\n\r\n{hidden}",
    "an expectation": "Expect: 100-continue\r\nContent-Length: 300\r\n\r\n{hidden}",
    "an expectation of chunks": "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    "an upgrade": "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n{hidden}",
    "a length that the connection drops": "Connection: Content-Length\r\nContent-Length: 300\r\n\r\n{hidden}",
    "a token that the connection drops": "Connection: Authorization\r\nContent-Length: 0\r\n\r\n{hidden}",
}  # fmt: skip
STARTS = [
    "GET {mine} HTTP/1.1",
    "HEAD {mine} HTTP/1.1",
    "POST {mine} HTTP/1.1",
    "GET {mine} HTTP/1.0",
    "POST /orthanc/tools/find HTTP/1.1",
]


@pytest.mark.parametrize("case", BODIES)
def test_a_request_hidden_in_another_is_nobodys(case: str, platform: Platform) -> None:
    mine, theirs = f"/dicom-web/studies/{MINE.study}/series", f"/studies/{THEIRS.study}"
    hidden = HIDDEN.format(theirs=theirs, host=platform.host)
    login = f"Host: {platform.host}\r\nAuthorization: Bearer {platform.tokens['nora']}\r\n"
    for start in STARTS:
        head = f"{start.format(mine=mine)}\r\n{login}"
        request = (head + BODIES[case].format(hidden=hidden)).encode("latin-1")
        with platform.wire() as attacker:
            attacker.send(request)
            _ask_as_sam(platform)
            got = attacker.all(0.05)
            # What is sent next may end the hidden request's last header.
            attacker.send_if_open(platform.request(mine, "nora", "GET", "Connection: close"))
            got += attacker.all(0.15)
        assert marks_in(got) <= ENTITLED["nora"], start
        assert got.count(b"HTTP/1.1 200") <= 3, start
        _ask_as_sam(platform)


def _ask_as_sam(platform: Platform) -> None:
    """His next request, over whatever connection to the gateway is left, is answered as ever."""
    answer = platform.ask(f"/dicom-web{THEIRS.path()}/metadata", "sam")
    assert (answer.status, marks_in(answer.body)) == (200, {THEIRS.mark})


def test_after_an_answer_without_a_body_the_next_one_is_the_next(platform: Platform) -> None:
    target = f"/dicom-web{MINE.path()}/frames/1"
    with platform.wire() as wire:
        for method, line in (
            ("HEAD", OCTETS),
            ("GET", "If-None-Match: *"),
            ("OPTIONS", "X: x"),
            ("HEAD", "Range: bytes=0-9"),
        ):
            wire.send(
                platform.request(target, "nora", method, line) + platform.request("/dicom-web/studies", "sam")
            )
            wire.answer(method)
            following = wire.answer()
            assert following.status == 200
            assert marks_in(following.body) == ENTITLED["sam"]


def test_a_token_does_not_stay_with_the_connection(platform: Platform) -> None:
    target = f"/dicom-web{THEIRS.path()}/metadata"
    with platform.wire() as wire:
        for who, status in (
            ("sam", 200),
            ("", 401),
            ("nora", 404),
            ("sam", 200),
            ("gwen", 401),
            ("noel", 403),
        ):
            wire.send(platform.request(target, who))
            answer = wire.answer()
            assert answer.status == status
            assert not platform.leaked(answer, who)


def test_a_session_of_tls_does_not_carry_a_person(platform: Platform) -> None:
    context = platform.site.nginx.trust()
    for who, status in (("sam", 200), ("nora", 404), ("", 401)):
        with Wire(platform.site.nginx, context=context) as wire:
            wire.send(platform.request(f"/dicom-web{THEIRS.path()}/metadata", who))
            assert wire.answer().status == status
