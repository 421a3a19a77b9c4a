"""Requests and files made to break the archive: none of them does."""

from __future__ import annotations

import random
import struct
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import urllib3
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from requests.exceptions import ChunkedEncodingError

from demo.archive import part10
from demo.archive.errors import UnreadableInstanceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.archives import Study, Web

PATHS = [
    ("GET", "/dicom-web/studies/..%5C..%5Csystem", 404),
    ("GET", "/dicom-web/studies/%2e%2e/%2e%2e/system", 404),
    ("GET", "/dicom-web/studies/1.2/../../../system", 404),
    ("GET", "/dicom-web/studies/1.2%00/metadata", 404),
    ("GET", "/dicom-web/studies/1..2/metadata", 404),
    ("GET", "/dicom-web/studies/.1/metadata", 404),
    ("GET", "/dicom-web/studies/" + "1" * 65 + "/metadata", 404),
    ("GET", "/dicom-web/studies/1.2,1.3/series", 404),
    ("GET", "/dicom-web/studies/1.2/series/1.3/instances/1.4/bulk/%2e%2e/x", 404),
    ("GET", "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1", 404),
    ("GET", "/dicom-web/studies/1.2/series/1.3/instances/1.4/rendered", 404),
    ("GET", "/instances/", 404),
    ("GET", "/dicom-web/studies?PatientName=%ff%fe", 200),
    ("GET", "/dicom-web/studies?StudyInstanceUID=" + "1.2," * 1500 + "1", 200),
    ("GET", "/dicom-web/studies?limit=99999999999999999999", 400),
    ("GET", "/dicom-web/studies?offset=999999999", 200),
    ("GET", "/dicom-web/studies?PatientID=%00", 200),
    ("GET", "/dicom-web/studies?PatientID=%27%20OR%201=1--", 200),
    ("DELETE", "/dicom-web/studies/1.2", 404),
    ("DELETE", "/dicom-web/studies/1.2/series/1.3", 405),
    ("PUT", "/dicom-web/studies", 405),
    ("POST", "/dicom-web/studies/1.2/series", 405),
    ("GET", "/dicom-web/studies?_method=DELETE", 400),
]


@pytest.fixture
def raw(embedded: Web) -> Iterator[urllib3.HTTPConnectionPool]:
    """Requests whose path nobody tidies up."""
    address = urlsplit(embedded.url)
    login = urllib3.make_headers(basic_auth=":".join(embedded.auth))
    with urllib3.HTTPConnectionPool(address.hostname or "", address.port, headers=login) as pool:
        yield pool


@pytest.mark.parametrize(("method", "target", "status"), PATHS)
def test_requests(raw: urllib3.HTTPConnectionPool, method: str, target: str, status: int) -> None:
    connection = raw._get_conn()
    connection.request(method, target, headers=raw.headers)
    answer = connection.getresponse()
    assert (answer.status, b"[]" in answer.data or answer.status != 200) == (status, True)
    connection.close()


@pytest.mark.long
def test_files_with_flipped_bytes_never_make_a_server_error(embedded: Web, study: Study) -> None:
    chance = random.Random(20)
    good = [study.file("US", transfer_syntax=RLELossless, frames=2), study.file("SR"), study.file("PDF")]
    reads = ["/metadata", "/frames/1", "/rendered", "/bulk/7fe00010", "/bulk/00420011"]
    for turn in range(60):
        damaged = bytearray(good[turn % 3])
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(140, len(damaged))] = chance.randrange(256)
        assert embedded.store(bytes(damaged)).status_code in {200, 400}
        for path in reads:
            with suppress(ChunkedEncodingError):  # damage after the first frame cuts the answer off
                answer = embedded.get(study.path(1) + path)
                assert answer.status_code in {200, 404, 406}, (turn, path)
    assert embedded.get("/studies").status_code == 200


def test_sequences_nested_without_end_are_no_dicom(embedded: Web, study: Study) -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    bomb = study.file("SR") + b"\x08\x01\x40\x11SQ\0\0\xff\xff\xff\xff" + item * 5000
    assert embedded.store(bomb).status_code in {200, 400}
    assert embedded.get(f"{study.path(1)}/metadata").status_code in {200, 404, 406}


def test_a_damaged_deflated_data_set_is_not_stored(embedded: Web, study: Study) -> None:
    good = study.file(transfer_syntax=DeflatedExplicitVRLittleEndian)
    damaged = good[:-40] + bytes(40)
    assert embedded.store(damaged).status_code == 400
    assert embedded.store(good).status_code == 200


def test_a_deflated_bomb_is_not_stored(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part10, "_INFLATED_LIMIT", 5_000_000)
    path = tmp_path / "bomb.dcm"
    for size, outcome in (
        (1000, nullcontext()),
        (2000, pytest.raises(UnreadableInstanceError, match="inflates")),
    ):
        path.write_bytes(study.file("CR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=size))
        with outcome:
            part10.read_header(path, [0x0020000D])


def test_an_element_that_claims_four_gigabytes_takes_none(embedded: Web, study: Study) -> None:
    claim = b"\xe1\x7f\x10\x10OB\0\0" + struct.pack("<L", 0xFFFFFFF0) + b"few"
    file = study.file("SR") + claim
    assert embedded.store(file).status_code in {200, 400}
    assert embedded.get(f"{study.path(1)}/metadata").status_code in {200, 404, 406}
    assert embedded.get(f"{study.path(1)}/bulk/7fe11010").status_code in {200, 404, 406}
