"""What a client accepts is read as RFC 9110 has it, and in a time that nobody can make long."""

from __future__ import annotations

import pytest

from gateway.media import ANY, MediaRange, negotiate, parse_accept
from gateway.paths import parse
from gateway.problems import BadRequest, NotAcceptable

FRAME = "studies/1.2/series/1.3/instances/1.4/frames/1"
HOSTILE = [
    "a/b" + ";x=   " * 300 + '"',
    "a/b" + " ;\t" * 680,
    "a/b" + " " * 2000 + '"',
    "a/b;x=" + "=;" * 1000 + '"',
    'a/b;x="' + '\\"' * 1000,
    '"",' * 600 + '"',
    '" "' * 680 + '"',
    "," * 2048,
    ";" * 2048,
]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("accept", HOSTILE)
def test_no_header_takes_longer_than_its_length(accept: str) -> None:
    try:
        found = parse_accept(accept)
    except BadRequest:
        found = ()
    assert {each.media_type for each in found} <= {"a/b"}


def of(accept: str) -> list[tuple[str, float]]:
    return [(each.media_type, each.quality) for each in parse_accept(accept)]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # What Java's HttpURLConnection sends unless told otherwise.
        (
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            [("text/html", 1.0), ("image/gif", 1.0), ("image/jpeg", 1.0), (ANY, 0.2), (ANY, 0.2)],
        ),
        ("a/b,,c/d", [("a/b", 1.0), ("c/d", 1.0)]),
        (" , a/b\t,", [("a/b", 1.0)]),
        ("a/b;", [("a/b", 1.0)]),
        ("a/b; q=0.5;; x", [("a/b", 0.5)]),
        ('a/b; x="\\",c/d;q=0.1"; Q=0.5', [("a/b", 0.5)]),
        ("A/B;q=0, c/d;q=nan, e/f;q=high, g/h;q=7", [("g/h", 1.0)]),
        ("a/b;q=0.1, c/d, e/f;q=0.5", [("c/d", 1.0), ("e/f", 0.5), ("a/b", 0.1)]),
        ("", []),
    ],
)
def test_what_is_no_media_range_is_left_out(accept: str, expected: list[tuple[str, float]]) -> None:
    assert of(accept) == expected


@pytest.mark.parametrize(
    "value", ["image/jls", '"image/jls"', '"IMAGE/JLS"', '"image\\/jls"', ' "image/jls" ; x="a\\"b"']
)
def test_a_value_may_be_quoted_or_not(value: str) -> None:
    (found,) = parse_accept(f"multipart/related; type={value}; transfer-syntax=*")
    assert found == MediaRange("multipart/related", "image/jls", "*", 1.0)


def forms(accept: str, path: str = FRAME) -> list[str]:
    """What the archive is asked for, one after the other; of a single part, what it is handed on as."""
    return [each.unwrap_as or each.accept for each in negotiate(parse(path), accept)]


STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
DECODED = 'multipart/related; type="application/octet-stream"'
JLS, JP2 = 'multipart/related; type="image/jls"', 'multipart/related; type="image/jp2"'
FILE, FILE_STORED = (
    f'multipart/related; type="application/dicom"{end}' for end in ("", "; transfer-syntax=*")
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", [STORED]),
        (STORED, [STORED]),
        (f"{JLS}, {STORED}", [STORED, JLS]),
        (f"{JLS}, {DECODED}, {STORED}", [STORED, JLS, DECODED]),
        (f"{JLS}, {STORED}; q=0.9", [JLS, STORED]),
        (f"{JLS}; q=0.5, {JP2}; q=0.7, {STORED}; q=0.5", [JP2, STORED, JLS]),
        (f"{STORED}, {STORED}; q=0.3, */*; q=0.1", [STORED]),
        ("image/jpeg, */*; q=0.1", ["image/jpeg", STORED]),
        (
            ", ".join(f"{JLS}; transfer-syntax=1.2.{n}" for n in range(9)),
            [f"{JLS}; transfer-syntax=1.2.{n}" for n in range(4)],
        ),
    ],
)
def test_what_needs_no_decoding_comes_first_among_what_is_wanted_alike(
    accept: str, expected: list[str]
) -> None:
    assert forms(accept) == expected


def test_of_documents_and_pictures_the_order_is_the_clients() -> None:
    instance = FRAME.removesuffix("/frames/1")
    assert forms("application/pdf, */*", f"{instance}/bulk/00420011")[0] == "application/pdf"
    assert forms("image/png, */*", f"{instance}/rendered") == ["image/png", "image/jpeg"]
    assert forms(f"{FILE}, {FILE_STORED}", instance) == [FILE_STORED, FILE]


@pytest.mark.parametrize(
    "accept", ["text", "/", "a/b;c", '"image/jls"', "image/jls;q=0", "multipart/related;type="]
)
def test_of_nothing_that_is_offered_nothing_is_sent(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(parse("studies/1.2/metadata"), accept)
