"""Reads what the importer must know of a DICOM file: who it is, and where it can be changed.

Only headers are read, by `os.pread`, to the end of the file; pixel data is passed over by arithmetic.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from importer.dicom.encoding import IMPLICIT_LITTLE, PIXEL_DATA, UNDEFINED, tag_name
from importer.dicom.meta import MEDIA_STORAGE_DIRECTORY, is_directory, parse_uid, read_file_meta
from importer.dicom.padding import require_padding
from importer.dicom.refusal import Reason, RefusedFileError, SkippedFileError, UnstorableFileError
from importer.dicom.source import FileSource, Limits
from importer.dicom.strange import not_dicom
from importer.dicom.syntax import native_syntax, require_encoding, transfer_syntax
from importer.dicom.text import decode_patient_id
from importer.dicom.transcode import InflatedSource
from importer.dicom.walk import Element, Walker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importer.dicom.encoding import TransferSyntax
    from importer.dicom.meta import FileMeta
    from importer.dicom.nesting import OpenItem
    from importer.dicom.source import Source
    from pacs.ids import Uid

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
INSTITUTION_NAME = 0x00080080
PATIENT_ID = 0x00100020
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
ORIGINAL_ATTRIBUTES_SEQUENCE = 0x04000561
GROUP_LENGTHS = (0x00080000, 0x04000000)
# Of the other groups in which a VR may be put right (`OWN_VRS`).
_OTHER_GROUP_LENGTHS = frozenset({0x00100000, 0x00200000})

_UIDS = {
    SOP_CLASS_UID: "SOPClassUID",
    SOP_INSTANCE_UID: "SOPInstanceUID",
    STUDY_INSTANCE_UID: "StudyInstanceUID",
    SERIES_INSTANCE_UID: "SeriesInstanceUID",
}
_MISSING = {
    SOP_INSTANCE_UID: Reason.NO_SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID: Reason.NO_STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID: Reason.NO_SERIES_INSTANCE_UID,
}
OWN_VRS = dict.fromkeys(_UIDS, (b"UI",)) | {
    SPECIFIC_CHARACTER_SET: (b"CS",),
    PATIENT_ID: (b"LO", b"SH"),
}
"""The VRs in which these elements are sent. The first takes the place of another one: converters to explicit
VR write UN, which STOW-RS of Orthanc does not understand (measured with 1.10.1 and 1.12.7)."""
# The bytes of a text are the same in each, and how long a value may sensibly be.
_TEXT_VRS = frozenset(b"AE CS DS IS LO LT PN SH ST UC UI UN UT".split())
_LENGTH_VRS, _LENGTH = frozenset({b"UL", b"UN"}), 4
_VALUES = dict.fromkeys(_UIDS, (_TEXT_VRS, 80)) | {
    SPECIFIC_CHARACTER_SET: (_TEXT_VRS, 1024),
    PATIENT_ID: (_TEXT_VRS, 1024),
    **dict.fromkeys(GROUP_LENGTHS, (_LENGTH_VRS, _LENGTH)),
}
_INSTITUTION_LIMIT = 0xFFFE
_BITS_ALLOCATED = 0x00280100
# Pixel data of the three kinds, and the address of a server that has it (PS3.3 section C.7.6.3).
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PIXELS = _PIXEL_DATA | {0x00287FE0}
# Not every group's end: a file can have 65,000 groups, and a hundred files be in hand.
_GROUPS = frozenset(place >> 16 for place in _OTHER_GROUP_LENGTHS.union(GROUP_LENGTHS))
_PLACES = (INSTITUTION_NAME, ORIGINAL_ATTRIBUTES_SEQUENCE)  # in their order
_TAKEN = frozenset({*_VALUES, *_PLACES})
_NOTED = _TAKEN | _PIXELS | _OTHER_GROUP_LENGTHS | {_BITS_ALLOCATED}


@dataclass
class _Scan:
    """What was found so far."""

    elements: dict[int, Element] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    group_ends: dict[int, int] = field(default_factory=dict)
    noted: set[int] = field(default_factory=set)
    open_items: Sequence[OpenItem] = ()
    pixels: Element | None = None
    end: int = 0


@dataclass(frozen=True)
class InstanceHeader:
    """One readable instance. Offsets count in the data set as it is when inflated.

    Attributes:
        syntax: the transfer syntax: as stated, or as found where that is not true.
        patient_id: as Orthanc reads it, without the spaces that pad it; may be empty.
        institution_name: the value that the clinic id is going to replace, as the file has it.
        institution_vr: its VR where the encoding is explicit.
        open_items: items that get their length (`importer.dicom.nesting`).
        lacks_pixels: it describes pixel data and has none. There are such images; or it is half of one.
        limits: what the file was read with.
        head: the first bytes of the file, where the data set is not deflated: they need not be read again.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    study_instance_uid: Uid
    series_instance_uid: Uid
    patient_id: str
    syntax: TransferSyntax
    institution_name: bytes
    institution_vr: bytes
    meta: FileMeta
    end: int
    elements: Mapping[int, Element]
    after: Mapping[int, int]
    group_ends: Mapping[int, int]
    open_items: Sequence[OpenItem]
    lacks_pixels: bool
    limits: Limits
    head: bytes = field(repr=False)


def read_instance(fd: int, limits: Limits | None = None) -> InstanceHeader:
    """Read the header of the file open at `fd` and check that its data set reaches the end of the file.

    Raises:
        RefusedFileError: the file cannot be stored; `uids` holds those that were found before.
        SkippedFileError: it is a DICOMDIR.
        OSError: the file system failed: this says nothing about the file.
    """
    limits = (limits or Limits()).of_file(os.fstat(fd).st_size)
    source = FileSource(fd, limits)
    meta = read_file_meta(source)
    if meta.sop_class_uid == MEDIA_STORAGE_DIRECTORY and is_directory(source, meta.end):
        raise SkippedFileError(Reason.DICOMDIR, "A DICOMDIR lists files and holds no image.")
    scan = _Scan()
    try:
        syntax = transfer_syntax(meta, source.read(meta.end, 6))
        if syntax.is_deflated:
            _scan(scan, InflatedSource(fd, meta.end, limits), 0, syntax, limits)
        else:
            _scan(scan, source, meta.end, syntax, limits)
        if syntax.must_encapsulate and scan.pixels is not None and scan.pixels.length != UNDEFINED:
            syntax = native_syntax(FileSource(fd, limits), meta.end, scan.pixels.length, limits)
        return _header(scan, meta, syntax, limits, b"" if syntax.is_deflated else source.head)
    except UnstorableFileError as error:
        if meta.values or SOP_INSTANCE_UID in scan.values:
            error.uids = {_UIDS[tag]: uid for tag in _UIDS if (uid := _known_uid(scan, tag))}
            raise
        raise not_dicom(fd, limits) from error


def _scan(scan: _Scan, source: Source, start: int, syntax: TransferSyntax, limits: Limits) -> None:
    require_encoding(syntax, source.read(start, 6))
    walker = Walker(source, start, syntax, limits)
    highest = -1
    ahead: tuple[int, ...] = _PLACES
    for element in walker.elements():
        tag = element[0]
        if ahead and tag > ahead[0]:
            ahead = _pass_places(scan, ahead, tag, element[2])
        if tag in _NOTED:
            _note(scan, Element(*element), highest, source, walker)
        if tag >> 16 in _GROUPS and tag >> 16 >= highest >> 16:
            # Where its group is over; what stands out of order behind other groups is no more of it.
            scan.group_ends[tag >> 16] = element[5]
        if tag > highest:  # noqa: PLR1730 - max() is a call for each element
            highest = tag
    scan.end, scan.open_items = walker.end, walker.open_items
    if scan.end < source.size:
        require_padding(source, scan.end, behind_pixels=highest >= min(_PIXEL_DATA))


def _note(scan: _Scan, element: Element, highest: int, source: Source, walker: Walker) -> None:
    tag = element.tag
    if tag in _OTHER_GROUP_LENGTHS:
        if element.length == _LENGTH and element.vr in {b"", *_LENGTH_VRS} and tag > highest:
            scan.elements[tag] = element
    elif tag in scan.noted:
        _require_same(scan, element, source)
    else:
        scan.noted.add(tag)
        if tag == PIXEL_DATA:
            scan.pixels = element
        if tag in _TAKEN:
            _require_in_order(tag, highest)
            _take(scan, element, source, walker)


def _require_same(scan: _Scan, element: Element, source: Source) -> None:
    """DCMTK keeps the first of two elements, pydicom the last: they must say the same.

    The first is given its own VR where it has another; the second must have it.
    """
    tag = element.tag
    has_own = tag in OWN_VRS and element.vr in (b"", *OWN_VRS[tag])
    if not (has_own and _value(element, source) == scan.values[tag]):
        raise RefusedFileError(Reason.DUPLICATE_ELEMENT, f"{tag_name(tag)} occurs twice.")


def _take(scan: _Scan, element: Element, source: Source, walker: Walker) -> None:
    scan.elements[element.tag] = element
    if element.tag == ORIGINAL_ATTRIBUTES_SEQUENCE:
        _check_original_attributes(element, walker)
    else:
        scan.values[element.tag] = _value(element, source)


def _pass_places(scan: _Scan, ahead: tuple[int, ...], tag: int, start: int) -> tuple[int, ...]:
    """Note the first element behind each place where something may be put in; those still to come."""
    passed = [place for place in ahead if tag > place]
    scan.after |= dict.fromkeys(passed, start)
    return ahead[len(passed) :]


def _require_in_order(tag: int, highest: int) -> None:
    if tag < highest:
        raise RefusedFileError(Reason.ELEMENT_OUT_OF_ORDER, f"{tag_name(tag)} comes after a higher tag.")


def _check_original_attributes(element: Element, walker: Walker) -> None:
    if element.vr == b"UN" and element.length != UNDEFINED:
        # PS3.5 section 6.2.2, note 2: what was a sequence in implicit VR little endian.
        walker.walk_items(element, IMPLICIT_LITTLE)
    elif element.vr not in {b"", b"SQ", b"UN"}:
        raise RefusedFileError(Reason.UNEXPECTED_VR, f"{tag_name(element.tag)} is not a sequence.")


def _value(element: Element, source: Source) -> bytes:
    vrs, limit = _VALUES.get(element.tag, (None, _INSTITUTION_LIMIT))
    is_sequence = element.vr == b"SQ" or element.length == UNDEFINED
    if is_sequence or (element.vr and vrs is not None and element.vr not in vrs):
        raise RefusedFileError(Reason.UNEXPECTED_VR, f"{tag_name(element.tag)} has an unexpected VR.")
    if element.length > limit:
        reason = Reason.MALFORMED_UID if element.tag in _UIDS else Reason.MALFORMED_ELEMENT
        raise RefusedFileError(reason, f"{tag_name(element.tag)} is longer than it can be.")
    if element.tag in GROUP_LENGTHS and element.length != limit:
        raise RefusedFileError(Reason.MALFORMED_ELEMENT, f"{tag_name(element.tag)} is not a group length.")
    return source.read(element.value, element.length)


def _known_uid(scan: _Scan, tag: int) -> Uid | None:
    try:
        return parse_uid(tag, scan.values.get(tag, b""))
    except RefusedFileError:
        return None


def _header(
    scan: _Scan, meta: FileMeta, syntax: TransferSyntax, limits: Limits, head: bytes
) -> InstanceHeader:
    uids: dict[int, Uid] = {}
    for tag, reason in _MISSING.items():
        uid = parse_uid(tag, scan.values.get(tag, b""))
        if uid is None:
            raise RefusedFileError(reason, f"The data set has no {_UIDS[tag]} {tag_name(tag)}.")
        uids[tag] = uid
    sop_class = parse_uid(SOP_CLASS_UID, scan.values.get(SOP_CLASS_UID, b"")) or meta.sop_class_uid
    if sop_class is None or sop_class == MEDIA_STORAGE_DIRECTORY:
        raise RefusedFileError(Reason.NO_SOP_CLASS_UID, "The data set has no SOPClassUID (0008,0016).")
    institution = scan.elements.get(INSTITUTION_NAME)
    return InstanceHeader(
        sop_class_uid=sop_class,
        sop_instance_uid=uids[SOP_INSTANCE_UID],
        study_instance_uid=uids[STUDY_INSTANCE_UID],
        series_instance_uid=uids[SERIES_INSTANCE_UID],
        patient_id=decode_patient_id(
            scan.values.get(PATIENT_ID, b""), scan.values.get(SPECIFIC_CHARACTER_SET, b"")
        ),
        syntax=syntax,
        institution_name=scan.values.get(INSTITUTION_NAME, b""),
        institution_vr=institution.vr if institution and institution.vr else b"LO",
        meta=meta,
        end=scan.end,
        elements=scan.elements,
        after=scan.after,
        group_ends=scan.group_ends,
        open_items=scan.open_items,
        lacks_pixels=_BITS_ALLOCATED in scan.noted and not _PIXELS & scan.noted,
        limits=limits,
        head=head,
    )
