"""Neither headers nor methods nor spellings of the token change whose studies one reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.marked import marks_in
from support.platform import LENT, MINE, THEIRS

if TYPE_CHECKING:
    from support.platform import Platform

pytestmark = pytest.mark.xdist_group("isolation")
INTERNAL = f"/_archive/1/multipart,application,octet-stream,any{THEIRS.path()}/frames/1"
METADATA = f"/dicom-web/studies/{THEIRS.study}/metadata"
LINES = [
    f"X-Accel-Redirect: {INTERNAL}", f"X-Sendfile: {INTERNAL}", f"X-Original-URL: {METADATA}",
    f"X-Rewrite-URL: {METADATA}", f"X-Forwarded-Uri: {METADATA}", f"X-Original-URI: {METADATA}",
    "X-Forwarded-User: sam", "X-Remote-User: sam", "Remote-User: sam",
    "X-Authenticated-Groups: /clinics/southside", "X-Forwarded-Groups: /clinics/southside",
    "X-Clinic: southside", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: attacker.example",
    "X-Forwarded-Proto: http", "X-Forwarded-Prefix: /x", "X-Forwarded-Port: 1",
    "Forwarded: for=127.0.0.1;host=attacker.example", "X-HTTP-Method-Override: DELETE",
    "X-Method-Override: POST", "SCRIPT_NAME: /x", "PATH_INFO: /x", "Script-Name: /x", "Path-Info: /x",
    "Cookie: explorer=1; session=x", "Range: bytes=0-50", "Range: bytes=0-0,-1",
    "Range: bytes=0-1,0-1,0-1,0-1,0-1", "If-Range: x", "If-None-Match: *", 'If-None-Match: "x"',
    "If-Modified-Since: Sat, 21 Nov 2099 00:00:00 GMT", "If-Match: *",
    "If-Unmodified-Since: Sat, 21 Nov 1999 00:00:00 GMT", "Cache-Control: only-if-cached",
    "Cache-Control: no-cache", "Pragma: no-cache", "Accept-Encoding: gzip, br, deflate", "TE: trailers",
    "Connection: close, Authorization", "Connection: close, X-Request-Id, Host", "Upgrade: h2c",
    "Upgrade: websocket", "Authorization : Bearer x", "X-Request-Id: ../../x", "Via: 1.1 x",
    "Max-Forwards: 0", "Expect: 100-continue", "Referer: https://attacker.example/",
    "Origin: https://attacker.example", "Accept-Charset: utf-7", "Access-Control-Request-Method: GET",
    "Content-Type: application/dicom+json", "Prefer: x", "Depth: infinity",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    "target", [METADATA, f"/dicom-web{THEIRS.path()}/frames/1", f"/dicom-web{THEIRS.path()}/rendered"]
)
def test_no_header_opens_what_is_not_mine(target: str, line: str, platform: Platform) -> None:
    answer = platform.ask(target, "nora", "GET", line)
    assert answer.status in {400, 404}
    assert not platform.leaked(answer, "nora")


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("target", ["/studies", f"/studies/{MINE.study}/series", f"{MINE.path()}/metadata"])
def test_no_header_brings_in_more_than_ones_own(target: str, line: str, platform: Platform) -> None:
    answer = platform.ask(f"/dicom-web{target}", "nora", "GET", line)
    assert answer.status in {200, 206, 304, 400, 412, 416}
    assert marks_in(answer.body, answer.headers) <= {MINE.mark, LENT.mark}
    assert b"attacker" not in answer.body


METHODS = [
    "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "TRACK", "CONNECT", "PROPFIND", "COPY", "MOVE",
    "SEARCH", "OPTIONS", "get", "GeT", "PURGE", "X",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["", f"/{THEIRS.study}", f"/{THEIRS.study}/metadata", f"/{MINE.study}"])
def test_no_method_but_get_and_head_gets_an_answer(method: str, target: str, platform: Platform) -> None:
    answer = platform.ask(f"/dicom-web/studies{target}", "nora", method)
    assert not platform.leaked(answer, "nora")
    if method == "HEAD":
        assert answer.status == (404 if THEIRS.study in target else 200)
    else:
        assert answer.status in {204, 400, 405}
    assert platform.dicom(f"/studies/{THEIRS.study}/metadata", "sam").status == 200


def test_head_tells_no_size_and_no_type_of_what_is_not_mine(platform: Platform) -> None:
    for tail in ("/frames/1", "/metadata", "", "/rendered"):
        theirs, none = (
            platform.dicom(f"/studies/{study}/series/{study}.2/instances/{study}.2.1{tail}", method="HEAD")
            for study in (THEIRS.study, "2.25.99900.1")
        )
        assert theirs.shape == none.shape
        assert theirs.status == 404


TOKENS = [
    "Bearer {sam}x", "Bearer  {nora}, Bearer {sam}", "Bearer {nora} {sam}", "Bearer {nora}.{sam}",
    "Basic {sam}", "Bearer {sam_unsigned}", "Bearer {nora_head}.{sam_body}.{nora_sign}",
    "Bearer {sam_head}.{sam_body}.", "Bearer {sam_head}.{sam_body}", "Bearer", "bearer", "Bearer null",
    "Bearer {gwen}", "Token {sam}", "Bearer:{sam}", "Bearer\t{sam}x", "{sam}",
]  # fmt: skip


@pytest.mark.parametrize("authorization", TOKENS)
def test_a_token_that_is_not_whole_or_not_alone_opens_nothing(authorization: str, platform: Platform) -> None:
    pieces = {name: platform.tokens[name].split(".") for name in ("nora", "sam")}
    named = {
        f"{name}_{part}": pieces[name][number]
        for name in pieces
        for number, part in enumerate(("head", "body", "sign"))
    }
    unsigned = f"eyJhbGciOiJub25lIiwia2lkIjoiZmlyc3QifQ.{named['sam_body']}."
    given = authorization.format(**platform.tokens, **named, sam_unsigned=unsigned)
    for target in ("/dicom-web/studies", METADATA):
        answer = platform.ask(target, "", "GET", f"Authorization: {given}")
        assert answer.status == 401, given[:40]
        assert not platform.leaked(answer, "")


def test_two_tokens_are_none(platform: Platform) -> None:
    for first, second in (("nora", "sam"), ("sam", "nora")):
        answer = platform.ask(METADATA, first, "GET", f"Authorization: Bearer {platform.tokens[second]}")
        assert answer.status in {400, 401}, first
        assert not platform.leaked(answer, "")


@pytest.mark.parametrize("name", ["access_token", "token", "id_token", "authorization", "jwt"])
def test_a_token_in_the_address_is_none(name: str, platform: Platform) -> None:
    answer = platform.ask(f"{METADATA}?{name}={platform.tokens['sam']}", "")
    assert answer.status == 401
    assert platform.ask(f"{METADATA}?{name}={platform.tokens['sam']}", "nora").status == 404
    cookie = f"Cookie: {name}={platform.tokens['sam']}"
    assert platform.ask(METADATA, "", "GET", cookie).status == 401
