"""Multipart bodies of one part: unwrapped whole, in pieces of any size, or broken off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.archive.multipart import MultipartError, boundary_of, only_part

if TYPE_CHECKING:
    from collections.abc import Iterator


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@given(content=st.binary(max_size=400) | st.just(b"\r\n--x\r\n\r\n--b\r\n--"), size=st.integers(1, 50))
def test_a_single_part_is_unwrapped_whole(content: bytes, size: int) -> None:
    boundary = b"boundary-4711"
    body = b"\r\n--" + boundary + b"\r\nContent-Type: x/y\r\nContent-Length: 3\r\n\r\n" + content
    body += b"\r\n--" + boundary + b"--\r\n"
    assert b"".join(only_part(cut(body, size), boundary)) == content


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\nabc",
        b"--b\r\n\r\nabc\r\n--b\r\n\r\ndef\r\n--b--",
        b"--b\r\n\r\nabc\r\n--b",
    ],
)
def test_a_part_that_is_not_the_only_one_or_not_whole_breaks_off(body: bytes) -> None:
    with pytest.raises(ValueError, match="multipart"):
        b"".join(only_part([body], b"b"))


@pytest.mark.parametrize("body", [b"", b"abc", b"--c\r\n\r\n", b"--b\r\n" + b"x" * 20_000])
def test_a_body_that_is_no_multipart_is_none(body: bytes) -> None:
    with pytest.raises(MultipartError):
        only_part([body], b"b")


def test_a_boundary_is_read_from_the_type() -> None:
    orthanc = 'multipart/related; type="image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"; boundary=99bd-7e'
    assert boundary_of(orthanc) == b"99bd-7e"
    assert boundary_of('Multipart/Related; boundary="a b"; type=x/y'.replace("a b", "a.b")) == b"a.b"
    for other in (
        "",
        "image/jpeg",
        "multipart/related",
        "multipart/mixed; boundary=x",
        "multipart/related; boundary=\n",
    ):
        with pytest.raises(MultipartError):
            boundary_of(other)


def test_what_follows_the_part_is_not_read_without_end() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b"--b\r\n\r\nabc\r\n--b--"
        while True:
            taken += 1
            yield b"x" * 1000

    assert b"".join(only_part(endless(), b"b")) == b"abc"
    assert taken < 10
