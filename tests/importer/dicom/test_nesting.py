"""Items of a UN that state no length: Orthanc misreads them, so they are sent with theirs."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from admin.verifying.tagged import ITEMS
from importer.dicom import nesting
from importer.dicom.refusal import Reason, RefusedFileError
from pacs.archive import Part
from pacs.archive.stow import StowClient
from support.corpus import instance_bytes
from support.dicom_files import compared, data_set, inserted, raw_elements, read_bytes, tag_bytes
from support.odd_files import meta_end, with_elements
from support.orthanc import orthanc
from support.raw import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit

if TYPE_CHECKING:
    from support.orthanc import Orthanc

__all__ = ["orthanc"]

_PRIVATE, _REQUEST = 0x00091010, 0x00400275
_END = implicit(SEQUENCE_END)
_VALUES = implicit(0x00090010, b"ACME") + implicit(0x00091001, b"\x7f\x7f\x7f\x7f")


def open_item(body: bytes) -> bytes:
    return implicit(ITEM, body + implicit(ITEM_END), UNDEFINED)


def unknown(*items: bytes) -> bytes:
    return explicit(_PRIVATE, b"UN", b"".join(items) + _END, UNDEFINED)


_INNER = implicit(0x00091020, open_item(_VALUES) + _END, UNDEFINED)
_FORMS = {
    "one": (unknown(open_item(_VALUES)), unknown(implicit(ITEM, _VALUES))),
    "several": (
        unknown(open_item(_VALUES), implicit(ITEM, _VALUES), open_item(b""), open_item(_VALUES)),
        unknown(*[implicit(ITEM, body) for body in (_VALUES, _VALUES, b"", _VALUES)]),
    ),
    # Orthanc passes over what is in an item that states its length.
    "items in items": (unknown(open_item(_VALUES + _INNER)), unknown(implicit(ITEM, _VALUES + _INNER))),
}


def sequence(item: bytes, length: int | None = None) -> bytes:
    return explicit(_REQUEST, b"SQ", item, length)


def deflated(content: bytes) -> bytes:
    head = instance_bytes("CT", size=4, transfer_syntax=DeflatedExplicitVRLittleEndian)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data_set(content)) + packer.flush()
    return head[: meta_end(head)] + packed + bytes(len(packed) % 2)


@pytest.mark.parametrize("what", _FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflated"])
def test_items_of_a_un_get_their_lengths(what: str, *, packed: bool) -> None:
    came, sent = _FORMS[what]
    content = with_elements(instance_bytes("CT", size=4), {_PRIVATE: came})
    content = deflated(content) if packed else content
    tagged = tag_bytes(content)
    assert raw_elements(tagged)[_PRIVATE] == sent
    before, after = (dcmread(BytesIO(each))[_PRIVATE] for each in (content, tagged))
    assert before == after
    assert compared(content, tagged)[0] == ""


def test_in_sequences_they_get_them_where_nothing_around_states_its_own() -> None:
    came, sent = _FORMS["several"]
    content = instance_bytes("CT", size=4)
    around = {
        sequence(open_item(came) + _END, UNDEFINED): sequence(open_item(sent) + _END, UNDEFINED),
        # These Orthanc passes over.
        sequence(implicit(ITEM, came) + _END, UNDEFINED): None,
        sequence(open_item(came)): None,
    }
    for before, after in around.items():
        tagged = tag_bytes(with_elements(content, {_REQUEST: before}))
        assert raw_elements(tagged)[_REQUEST] == (after or before)


@pytest.mark.parametrize("group", [0x0008, 0x0010, 0x0020])
def test_a_groups_length_is_put_right(group: int) -> None:
    def length(content: bytes) -> bytes:
        elements = raw_elements(content).items()
        size = sum(len(each) for tag, each in elements if tag >> 16 == group and tag & 0xFFFF)
        return explicit(group << 16, b"UL", size.to_bytes(4, "little"))

    came = explicit(group << 16 | 0x9999, b"UN", open_item(_VALUES) + _END, UNDEFINED)
    content = with_elements(instance_bytes("CT", size=4), {group << 16 | 0x9999: came})
    content = with_elements(content, {group << 16: length(content)})
    tagged = tag_bytes(content)
    assert raw_elements(tagged)[group << 16] == length(tagged)
    assert compared(content, tagged)[0] == ""


def test_in_implicit_vr_nothing_is_misread_nor_changed() -> None:
    element = implicit(_PRIVATE, open_item(_VALUES) + _END, UNDEFINED)
    content = inserted(ImplicitVRLittleEndian, 0x00100010, element)
    assert element in data_set(tag_bytes(content))


def test_more_than_can_be_noted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = with_elements(instance_bytes("CT", size=4), {_PRIVATE: unknown(*[open_item(_VALUES)] * 4)})
    monkeypatch.setattr(nesting, "_OPEN_ITEMS", 4)
    assert len(read_bytes(content).open_items) == 4
    monkeypatch.setattr(nesting, "_OPEN_ITEMS", 3)
    with pytest.raises(RefusedFileError) as caught:
        read_bytes(content)
    assert caught.value.reason == Reason.TOO_MANY_ELEMENTS


def test_another_length_in_the_archive_is_found() -> None:
    came, sent = _FORMS["several"]
    content = with_elements(instance_bytes("CT", size=4), {_PRIVATE: came})
    archived = tag_bytes(content)
    # As it was stored by an importer that left the items as they came.
    assert compared(content, archived.replace(sent, came))[0] == ""
    place = archived.index(sent) + 16
    changed = archived[:place] + bytes([archived[place] ^ 1]) + archived[place + 1 :]
    assert compared(content, changed)[0] == ITEMS


@pytest.mark.xdist_group("orthanc")
def test_orthanc_takes_no_value_for_a_length(orthanc: Orthanc) -> None:
    """Seven bits set in each byte of the value: 2 GB of memory where it does."""
    content = with_elements(instance_bytes("CT", size=4, seed="nesting"), {_PRIVATE: _FORMS["several"][0]})
    client = StowClient(orthanc.dicomweb_url, username=orthanc.username, password=orthanc.password)
    tagged = tag_bytes(content)
    assert client.store([Part([tagged], len(tagged))]).stored == {read_bytes(content).sop_instance_uid}
    client.close()
    status = Path(f"/proc/{orthanc.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 1_000_000, "kB"
