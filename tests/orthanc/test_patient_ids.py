"""Two files have the same patient id here exactly when Orthanc puts them under the same patient."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING

import pytest
import requests

from importer.dicom.refusal import RefusedFileError
from importer.dicom.text import decode_patient_id
from pacs.catalog import clinics, ownership
from pacs.catalog.ownership import Claim, Granted
from pacs.ids import Uid
from pacs.written_owner import give_back
from support.corpus import instance_bytes, sample_uid
from support.orthanc import PASSWORDS
from support.raw import explicit
from support.site import NORTH, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.archive.dicomweb import DicomWebArchive
    from pacs.catalog import Catalog
    from support.orthanc import Orthanc

_STUDY = sample_uid("a study of many patients")
_PADDING = [
    b"AB1", b"AB1 ", b"AB  ", b"AB", b"AB \0", b"AB\0\0", b"A\0 \0", b"A  ", b" A", b"  AB  ", b"", b"  ",
    b"\0\0", b"A\\B ", b"A\\  ", b"~A", b"AB1\xa0", b"\xa0AB1", b"AB\x85 ", "AB1\u3000".encode(),
    "AB1\u2003".encode(),
]  # fmt: skip
_BROKEN = [
    b"M\xfcl ", b"R\xe9ab", b"R\xe9a ", b"A\xf0\x9f\x98A", b"A\xe0\x80\x80B ", b"A\xed\xa0\x80", b"A\xc3",
    b"\xef\xbf\xbdA", b"\xff7", b"\x817", b"\xb0\xff7 ", b"\xa8\xbc", b"A\x1bB ", b"A\x1b-A\xfc ",
    b"\x1b$B8+", b"\x1b$)A\xd1\xf97 ", b"\xb1\xe8\x1b ",
]  # fmt: skip
_WRITTEN = [
    text.encode(encoding)
    for text, encodings in {
        "Mül": ("utf_8", "iso8859_1", "gb18030"),
        "Образец": ("utf_8", "iso8859_5"),
        "見本7": ("utf_8", "shift_jis", "iso2022_jp", "euc_kr"),
        "ﾐﾎﾝ": ("utf_8", "shift_jis"),
        "김희중": ("utf_8", "euc_kr"),
        "样本7": ("utf_8", "gb18030"),
        "見〜7": ("shift_jis", "iso2022_jp"),
        "ตัวอย่าง": ("utf_8", "tis_620"),
    }.items()
    for encoding in encodings
] + [b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf"]
_CHARACTER_SETS = [
    None, b"", b"ISO_IR 6", b"ISO_IR 999", b"ISO_IR 192", b"iso_ir_192", b"\\ISO_IR 192", b"ISO_IR 100",
    b"ISO_IR 101", b"ISO_IR 144", b"ISO_IR 126", b"ISO_IR 13", b"ISO_IR 166", b"GB18030", b"GBK",
    b"ISO 2022 IR 58", b"\\ISO 2022 IR 58", b"\\ISO 2022 IR 149", b"ISO 2022 IR 149", b"ISO 2022 IR 87",
    b"\\ISO 2022 IR 87", b"ISO 2022 IR 100\\ISO 2022 IR 87", b"ISO 2022 IR 13\\ISO 2022 IR 87",
    b"\\ISO 2022 IR 159", b"ISO_IR 192\\ISO 2022 IR 87",
]  # fmt: skip


def _content(value: bytes, character_set: bytes | None, study_uid: str, series_uid: str) -> bytes:
    content = instance_bytes(
        study_uid=study_uid, series_uid=series_uid, sop_instance_uid=f"{series_uid}.1", size=2
    )
    old, old_set = explicit(0x00100020, b"LO", b"SAMPLE-1"), explicit(0x00080005, b"CS", b"ISO_IR 100")
    new_set = b"" if character_set is None else explicit(0x00080005, b"CS", _even(character_set))
    assert old in content
    assert old_set in content
    return content.replace(old, explicit(0x00100020, b"LO", value)).replace(old_set, new_set)


def _even(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def _ids() -> Iterator[tuple[bytes, bytes | None, str]]:
    for value, character_set in product([*_PADDING, *_BROKEN, *_WRITTEN], _CHARACTER_SETS):
        try:
            yield value, character_set, decode_patient_id(value, _even(character_set or b""))
        except RefusedFileError:
            continue


def test_ids_are_the_same_where_orthanc_has_one_patient(archive: DicomWebArchive, server: Orthanc) -> None:
    ids = {f"1.2.3.77.{number}": found for number, found in enumerate(_ids())}
    assert len(ids) > 1000
    files = [_content(*found[:2], _STUDY, series_uid) for series_uid, found in ids.items()]
    for start in range(0, len(files), 200):
        store(archive, *files[start : start + 200])
    studies = {each["ID"]: each for each in _all(server, "studies")}
    at = {
        each["MainDicomTags"]["SeriesInstanceUID"]: studies[each["ParentStudy"]]
        for each in _all(server, "series")
    }
    theirs = defaultdict(set)
    for series_uid, (value, character_set, patient_id) in ids.items():
        theirs[patient_id].add(at[series_uid]["ID"])
        if "\x01" not in patient_id:
            # So that two of them that differ are two patients, and what is read back is the same.
            known = at[series_uid]["PatientMainDicomTags"].get("PatientID")
            assert patient_id == known, f"{value!r} in {character_set!r}"
    assert {patient_id: found for patient_id, found in theirs.items() if len(found) > 1} == {}


def _all(server: Orthanc, level: str) -> list[dict[str, dict[str, str]]]:
    url, auth = f"{server.url}/{level}?expand", ("admin", PASSWORDS["admin"])
    return requests.get(url, auth=auth, timeout=30).json()


@pytest.mark.parametrize(
    ("value", "character_set"),
    [
        (b" AB1", b"ISO_IR 100"),
        (b"AB1\xa0", b"ISO_IR 100"),
        ("AB1\u3000".encode(), b"ISO_IR 192"),
        ("Mül".encode(), None),
        (b"M\xfcl ", None),
        (b"A\\B ", b"ISO_IR 100"),
    ],
)
def test_a_study_given_back_takes_more_of_its_files(
    archive: DicomWebArchive, catalog: Catalog, value: bytes, character_set: bytes | None
) -> None:
    study_uid, now = Uid(sample_uid("given back", value, character_set)), datetime.now(UTC)
    store(archive, _content(value, character_set, study_uid, f"{study_uid[:50]}.1"))
    study = archive.study(study_uid)
    assert study is not None
    patient_id = decode_patient_id(value, character_set or b"")
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "North", now)
        give_back(connection, study, NORTH, now)
        claim = Claim(NORTH, study_uid, Uid("1.2.3.78"), patient_id)
        assert ownership.reserve(connection, claim, now) is Granted.OWNED
