"""Multipart bodies, however they are cut into pieces on their way."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from demo.archive.errors import RequestError
from demo.archive.multipart import MultipartReader, write_parts


class Trickle(io.BytesIO):
    """A stream that gives a few bytes at a time, as a socket may."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        del size
        return super().read(self._size)


def read_all(body: bytes, boundary: str = "XX", size: int = 7) -> list[tuple[str, bytes]]:
    reader = MultipartReader(Trickle(body, size), boundary)
    return [(headers.get("Content-Type", ""), b"".join(chunks)) for headers, chunks in reader.parts()]


part = st.one_of(st.binary(max_size=60), st.text("\r\n-X", max_size=20).map(str.encode))


@given(
    parts=st.lists(part.filter(lambda each: b"\r\n--XX" not in b"\r\n" + each), max_size=4),
    size=st.integers(1, 50),
)
@example(parts=[b"\r\n", b"\n--XX", b"-", b"\r\n--X"], size=1)
def test_what_is_written_is_read_back(parts: list[bytes], size: int) -> None:
    body = b"".join(write_parts("XX", (("application/dicom", [each]) for each in parts)))
    assert read_all(body, size=size) == [("application/dicom", each) for each in parts]


@pytest.mark.parametrize(
    "body",
    [
        b"preamble to be skipped\r\n--XX\r\n\r\nA\r\n--XX--\r\nepilogue",
        b"--XX  \t\r\n\r\nA\r\n--XX--",
        b"\r\n--XX\r\nX-Header: y\r\n\r\nA\r\n--XX--\r\n",
    ],
)
def test_forms_that_rfc_2046_allows(body: bytes) -> None:
    assert [content for _, content in read_all(body)] == [b"A"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XX",
        b"--XX\r\n",
        b"--XX\r\nContent-Type: x\r\n\r\nA",
        b"--XX\r\nContent-Type: x\r\n\r\nA\r\n--XX",
        b"--XXY\r\n\r\nA\r\n--XX--",
        b"--XX\n\nA\n--XX--\n",
        b"--XX\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\nA\r\n--XX--",
    ],
)
def test_malformed_bodies_are_400(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_all(body)
    assert caught.value.status == 400


def test_a_part_that_is_not_read_is_skipped() -> None:
    body = b"--XX\r\n\r\nskipped\r\n--XX\r\n\r\nread\r\n--XX--"
    reader = MultipartReader(io.BytesIO(body), "XX")
    found = [b"".join(chunks) for number, (_, chunks) in enumerate(reader.parts()) if number == 1]
    assert found == [b"read"]
