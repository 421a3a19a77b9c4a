"""Writes the clinic into an instance: new bytes around the old ones, which stay in their file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from importer.dicom.encoding import IMPLICIT_LITTLE, UNDEFINED, Encoding
from importer.dicom.part10 import INSTITUTION_NAME, ORIGINAL_ATTRIBUTES_SEQUENCE, OWN_VRS
from importer.dicom.refusal import Reason, RefusedFileError
from importer.dicom.transcode import InflatedSource, deflate
from pacs import MODIFYING_SYSTEM
from pacs.archive.parts import FileRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from importer.dicom.nesting import OpenItem
    from importer.dicom.part10 import InstanceHeader
    from importer.dicom.walk import Element
    from pacs.archive.parts import Segment
    from pacs.ids import ClinicId


_MODIFIED_ATTRIBUTES_SEQUENCE = 0x04000550
_ATTRIBUTE_MODIFICATION_DATE_TIME = 0x04000562
_MODIFYING_SYSTEM = 0x04000563
_SOURCE_OF_PREVIOUS_VALUES = 0x04000564
_REASON_FOR_THE_ATTRIBUTE_MODIFICATION = 0x04000565
_DELIMITER = 8


class _Edit(NamedTuple):
    """`new` takes the place of the bytes from `start` to `end` of the data set."""

    start: int
    end: int
    new: bytes


@dataclass
class TaggedInstance:
    """A Part 10 file for the archive, piece by piece. Close it when it was sent.

    Attributes:
        segments: in order; ranges are of the file it was made from, or of a temporary one.
        size: of all segments, in bytes.
    """

    segments: Sequence[Segment]
    size: int
    temporary: BinaryIO | None = None

    def close(self) -> None:
        """Drop the temporary file, if there is one. The file the instance was read from stays open."""
        if self.temporary is not None:
            self.temporary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def tag(
    header: InstanceHeader, fd: int, clinic: ClinicId, *, modified_at: datetime, temporary_folder: Path
) -> TaggedInstance:
    """The instance with InstitutionName (0008,0080) := `clinic` and the old value kept (PS3.3 C.12.1.1.9).

    Whatever tells whose it is gets its own VR, so that no parser reads it otherwise (PS3.5 section 6.2.2).
    Items that Orthanc misreads get their length (`importer.dicom.nesting`).

    Args:
        header: what `read_instance` found in the very file that is open at `fd`.
        fd: stays the caller's; must be open until the segments are sent.
        clinic: whose inbox the file lay in.
        modified_at: now, with a time zone.
        temporary_folder: where a deflated data set is deflated anew.

    Raises:
        RefusedFileError: a deflated data set changed since it was read, or a length would not fit.
        OSError: the file system failed.
    """
    meta = header.meta.rewritten(
        sop_class=header.sop_class_uid,
        sop_instance=header.sop_instance_uid,
        transfer_syntax=header.syntax.uid,
    )
    edits = sorted(_edits(header, clinic, modified_at))
    if header.syntax.is_deflated:
        return _deflated(header, fd, meta, edits, temporary_folder)
    segments: list[Segment] = [meta]
    for piece in _weave(header.meta.end, header.end, edits):
        if isinstance(piece, bytes):
            segments.append(piece)
        elif piece.stop <= len(header.head):
            segments.append(header.head[piece.start : piece.stop])
        else:
            segments.append(FileRange(fd, piece.start, len(piece)))
    size = sum(len(each) if isinstance(each, bytes) else each.length for each in segments)
    return TaggedInstance(tuple(segments), size)


def _deflated(
    header: InstanceHeader, fd: int, meta: bytes, edits: Sequence[_Edit], folder: Path
) -> TaggedInstance:
    source = InflatedSource(fd, header.meta.end, header.limits)
    file = tempfile.TemporaryFile(dir=folder, prefix=".deflated-")  # noqa: SIM115 - the caller closes
    try:
        file.write(meta)
        deflate(_chunks(source, _weave(0, header.end, edits)), file)
        file.flush()
        size = file.tell()
    except BaseException:
        file.close()
        raise
    return TaggedInstance((FileRange(file.fileno(), 0, size),), size, file)


def _chunks(source: InflatedSource, pieces: Iterator[bytes | range]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from source.copy(piece.start, piece.stop)


def _weave(start: int, end: int, edits: Sequence[_Edit]) -> Iterator[bytes | range]:
    """New bytes, and the ranges of the data set between them."""
    for edit in edits:
        if start < edit.start:
            yield range(start, edit.start)
        yield edit.new
        start = edit.end
    if start < end:
        yield range(start, end)


def _edits(header: InstanceHeader, clinic: ClinicId, modified_at: datetime) -> Iterator[_Edit]:
    groups = {INSTITUTION_NAME >> 16: [_institution(header, clinic)]}
    groups[ORIGINAL_ATTRIBUTES_SEQUENCE >> 16] = _history(header, modified_at)
    for element, head in with_own_vr(header):
        groups.setdefault(element.tag >> 16, []).append(_Edit(element.start, element.value, head))
    for item in header.open_items:
        groups.setdefault(item.tag >> 16, []).extend(_closed(item))
    for group, edits in groups.items():
        yield from edits
        size = header.elements.get(group << 16)
        if size is not None:
            growth = sum(len(edit.new) - (edit.end - edit.start) for edit in edits)
            length = header.group_ends[group] - size.end + growth
            new = header.syntax.encoding.uint32.pack(_checked(length))
            yield _Edit(size.value, size.end, new)


def with_own_vr(header: InstanceHeader) -> Iterator[tuple[Element, bytes]]:
    """Each identifying element that has another VR than its own, and the header that is written instead."""
    for tag, vrs in OWN_VRS.items():
        element = header.elements.get(tag)
        if element is not None and element.vr and element.vr not in vrs:
            yield element, header.syntax.encoding.header(tag, vrs[0], element.length)


def _closed(item: OpenItem) -> list[_Edit]:
    head = head_of(item)
    return [
        _Edit(item.start, item.start + len(head), head),
        _Edit(item.delimiter, item.delimiter + _DELIMITER, b""),
    ]


def head_of(item: OpenItem) -> bytes:
    """The header that is written instead of one of undefined length; the item's delimiter is left out."""
    return IMPLICIT_LITTLE.item_header(item.delimiter - item.start - _DELIMITER)


def _institution(header: InstanceHeader, clinic: ClinicId) -> _Edit:
    new = header.syntax.encoding.element(INSTITUTION_NAME, b"LO", clinic.encode("ascii"))
    element = header.elements.get(INSTITUTION_NAME)
    if element is None:
        place = header.after.get(INSTITUTION_NAME, header.end)
        return _Edit(place, place, new)
    return _Edit(element.start, element.end, new)


def _history(header: InstanceHeader, modified_at: datetime) -> list[_Edit]:
    """The new last item of OriginalAttributesSequence, in a new sequence or in the one there is."""
    encoding = header.syntax.encoding
    element = header.elements.get(ORIGINAL_ATTRIBUTES_SEQUENCE)
    if element is None:
        item = _item(header, encoding, modified_at)
        place = header.after.get(ORIGINAL_ATTRIBUTES_SEQUENCE, header.end)
        return [_Edit(place, place, encoding.header(ORIGINAL_ATTRIBUTES_SEQUENCE, b"SQ", len(item)) + item)]
    vr = element.vr or b"SQ"
    item = _item(header, IMPLICIT_LITTLE if vr == b"UN" else encoding, modified_at)
    if element.length == UNDEFINED:
        return [_Edit(element.end - _DELIMITER, element.end - _DELIMITER, item)]
    longer = encoding.header(ORIGINAL_ATTRIBUTES_SEQUENCE, vr, _checked(element.length + len(item)))
    return [_Edit(element.start, element.value, longer), _Edit(element.end, element.end, item)]


def _checked(length: int) -> int:
    if length >= UNDEFINED:
        raise RefusedFileError(
            Reason.MALFORMED_ELEMENT, "With the added tag a group or sequence would exceed 4 GB."
        )
    return length


def _item(header: InstanceHeader, encoding: Encoding, modified_at: datetime) -> bytes:
    moment = f"{modified_at:%Y%m%d%H%M%S.%f%z}".encode()
    return history_item(encoding, header.institution_vr, header.institution_name, moment)


def history_item(encoding: Encoding, vr: bytes, replaced_value: bytes, moment: bytes) -> bytes:
    """The item of OriginalAttributesSequence that keeps an InstitutionName replaced at a moment (a DT)."""
    replaced = encoding.element(INSTITUTION_NAME, vr, replaced_value)
    modified = encoding.item_header(len(replaced)) + replaced
    body = (
        encoding.header(_MODIFIED_ATTRIBUTES_SEQUENCE, b"SQ", len(modified))
        + modified
        + encoding.element(_ATTRIBUTE_MODIFICATION_DATE_TIME, b"DT", moment)
        + encoding.element(_MODIFYING_SYSTEM, b"LO", MODIFYING_SYSTEM.encode())
        + encoding.element(_SOURCE_OF_PREVIOUS_VALUES, b"LO", b"")
        + encoding.element(_REASON_FOR_THE_ATTRIBUTE_MODIFICATION, b"CS", b"COERCE")
    )
    return encoding.item_header(len(body)) + body
