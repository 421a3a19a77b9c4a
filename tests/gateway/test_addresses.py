"""Addresses and envelopes of the archive's answers, however they are cut into pieces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.archive.addresses import public_bulk_url, rewrite_metadata, rewrite_result
from gateway.archive.results import RESULT_MAX, results
from gateway.problems import BadGateway
from gateway.settings import GatewaySettings
from gateway.source import source_address
from pacs.ids import Uid

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "https://pacs.example.org/dicom-web"
ITS = "http://archive.internal:8042/dicom-web"
TAIL = "/studies/1.2/series/1.3/instances/1.4/bulk/54000100/1/54001010"
HOSTILE = '","BulkDataURI":"http://archive.internal/x'


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def rewritten(document: Any, size: int = 7) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return json.loads(b"".join(rewrite_metadata(cut(body, size), ROOT)))


@pytest.mark.parametrize("size", [1, 2, 3, 13, 14, 50, 10_000])
def test_bulk_addresses_become_ours(size: int) -> None:
    its = [
        {
            "7FE00010": {"vr": "OW", "BulkDataURI": ITS + TAIL},
            "54000100": {"vr": "SQ", "Value": [{"54001010": {"BulkDataURI": ITS + TAIL, "vr": "OW"}}]},
            "00080060": {"vr": "CS", "Value": ["BulkDataURI"]},
            "00081030": {
                "vr": "LO",
                "Value": [HOSTILE, 'a"BulkDataURI":"', "BulkDataURI", '"BulkDataURI'] * 50,
            },
        }
    ]
    ours = rewritten(its, size)
    assert ours == json.loads(json.dumps(its).replace(ITS + TAIL, ROOT + TAIL))


@pytest.mark.parametrize(
    "spelled", ['"BulkDataURI" : "%s"', '"BulkDataURI":\n\t"%s"', '"BulkDataURI":"%s"'], ids=repr
)
def test_bulk_addresses_are_found_in_any_layout(spelled: str) -> None:
    escaped = (ITS + TAIL).replace("/", "\\/")
    for uri in (ITS + TAIL, escaped):
        assert rewritten(("{" + spelled % uri + "}").encode()) == {"BulkDataURI": ROOT + TAIL}


@pytest.mark.parametrize(
    "uri",
    [
        "http://archive.internal:8042/instances/1",
        ITS + "/studies/1.2/series/1.3/instances/1.4",
        ITS + "/studies/1.2/series/1.3/instances/1.4/bulk/../../1.5",
        ITS + "/studies/1.2%5C1.3/series/1.3/instances/1.4/bulk/7fe00010",
        ITS + "/studies/x/series/1.3/instances/1.4/bulk/7fe00010",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "",
        "\u0000",
    ],
)
def test_an_address_that_is_not_understood_is_dropped(uri: str) -> None:
    assert public_bulk_url(uri, ROOT) is None
    assert rewritten([{"7FE00010": {"vr": "OW", "BulkDataURI": uri}}]) == [
        {"7FE00010": {"vr": "OW", "InlineBinary": ""}}
    ]


def test_an_answer_that_ends_within_an_address_is_not_passed_on() -> None:
    for body in (
        b'[{"7FE00010":{"BulkDataURI":"http://archive',
        b'[{"7FE00010":{"BulkDataURI":"' + b"x" * 9000,
    ):
        with pytest.raises(BadGateway):
            b"".join(rewrite_metadata(cut(body, 100), ROOT))


def element(*values: Any) -> dict[str, Any]:
    return {"vr": "UI", "Value": list(values)}


def searched(body: bytes, size: int = 1000, series: Uid | None = None) -> list[Any]:
    found = (rewrite_result(each, ROOT, Uid("1.2"), series) for each in results(cut(body, size)))
    return [each for each in found if each]


def test_a_search_answers_the_authorised_study_and_series_only() -> None:
    mine = {"0020000D": element("1.2"), "0020000E": element("1.3"), "00080018": element("1.4")}
    answered = [
        mine | {"00081190": element(ITS + "/studies/9.9"), "00091010": {"BulkDataURI": ITS, "vr": "OB"}},
        mine | {"0020000D": element("9.9")},
        mine | {"0020000E": element("9.9")},
        mine | {"0020000E": element("1.3", "9.9")},
        mine | {"0020000E": element("1.3\\9.9")},
        {"0020000D": element("1.2")},
        {},
    ]
    found = searched(json.dumps(answered).encode(), series=Uid("1.3"))
    url = f"{ROOT}/studies/1.2/series/1.3/instances/1.4"
    assert found == [mine | {"00081190": {"vr": "UR", "Value": [url]}, "00091010": {"vr": "OB"}}]
    assert [searched(body) for body in (b"", b" ", b"[]", b" [ ] \n")] == [[]] * 4


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"ensure_ascii": False, "separators": (",", ":")}])
def test_results_are_the_same_however_they_are_cut(size: int, layout: dict[str, Any]) -> None:
    listed = [
        {
            "00100010": {
                "vr": "PN",
                "Value": [{"Alphabetic": 'Sample^Aurora ]},{["\\', "Ideographic": "例^é"}],
            }
        },
        {},
        {"00081030": {"vr": "LO", "Value": ["}", "\\", '"', None, 1.5, "\U0001f600"]}},
    ]
    assert list(results(cut(json.dumps(listed, **layout).encode(), size))) == listed


NO_LISTS = [
    b"{}", b"[1]", b"<html>", b'"x"', b"null", b"[" * 100_000, b"[{}", b"[{},", b"[{},]", b"[{}]]", b"{}]",
    b"[{} {}]", b"[,{}]", b"[{}]x", b"[{]", b'[{"a":1e99x}]', b"[\xff{}]", b'[{"\xff":1}]',
    b'[{"a":' * 100_000, b'[{"a":' + b"1" * 5000 + b"}]",
]  # fmt: skip


@pytest.mark.parametrize("body", NO_LISTS, ids=lambda body: repr(body[:20]))
def test_a_search_that_is_answered_with_something_else_is_a_bad_gateway(body: bytes) -> None:
    with pytest.raises(BadGateway):
        searched(body)


def test_a_result_without_end_is_not_waited_for() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b'[{"a":"'
        while True:
            taken += 1
            yield b"x" * 65_536

    with pytest.raises(BadGateway):
        list(results(endless()))
    assert taken * 65_536 <= RESULT_MAX + 65_536


SOURCES = [
    ("192.0.2.1", "", "", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.7", "", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.7", "10.0.0.0/8", "192.0.2.1"),
    ("10.0.0.1", "198.51.100.7", "10.0.0.0/8", "198.51.100.7"),
    ("10.0.0.1", "6.6.6.6, 198.51.100.7", "10.0.0.0/8", "198.51.100.7"),
    ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "10.0.0.0/8", "198.51.100.7"),
    ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.0/8", "10.0.0.3"),
    ("10.0.0.1", "<script>", "10.0.0.0/8", "10.0.0.1"),
    ("10.0.0.1", "", "10.0.0.0/8", "10.0.0.1"),
    ("10.0.0.1", "," * 10_000, "10.0.0.0/8", "10.0.0.1"),
    ("::1", " 2001:db8::7 ", "::1", "2001:db8::7"),
    ("", "198.51.100.7", "10.0.0.0/8", ""),
]  # fmt: skip


@pytest.mark.parametrize(("peer", "forwarded_for", "trusted", "expected"), SOURCES)
def test_a_forwarded_address_is_believed_of_trusted_proxies_only(
    peer: str, forwarded_for: str, trusted: str, expected: str
) -> None:
    given: dict[str, Any] = {"oidc_issuer": "https://issuer.example", "trusted_proxies": trusted}
    networks = GatewaySettings(**given).trusted_proxies
    assert source_address(peer, forwarded_for, networks) == expected
