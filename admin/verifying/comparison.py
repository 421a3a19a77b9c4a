"""Whether the archive has of a file what the importer sent: every byte, but for the clinic written into it.

The importer sends the ranges of the file as they are, around a new InstitutionName and a new item of
OriginalAttributesSequence (`importer.dicom.tag`). So both are gone through side by side, in chunks, and
only these elements, the lengths of their groups and the file meta information may differ. A deflated data
set is compared inflated, because it is deflated anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from admin.verifying.stream import Stream
from importer.dicom.meta import read_file_meta
from importer.dicom.part10 import GROUP_LENGTHS, INSTITUTION_NAME, ORIGINAL_ATTRIBUTES_SEQUENCE
from importer.dicom.refusal import RefusedFileError
from importer.dicom.source import FileSource
from importer.dicom.transcode import InflatedSource
from importer.dicom.walk import Walker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from importer.dicom.encoding import TransferSyntax
    from importer.dicom.part10 import InstanceHeader
    from importer.dicom.source import Limits, Source

PIXELS = "its pixel data is another in the archive"
ATTRIBUTES = "its attributes are others in the archive"
TRANSCODED = "the archive has it in another transfer syntax"
LONGER = "the archive has more of it"
UNREADABLE_THERE = "what the archive has is no whole DICOM instance"

_CHUNK = 1 << 18
_TAG = 4
_PIXEL_GROUP = 0x7FE0
_TAGGED = (GROUP_LENGTHS[0], INSTITUTION_NAME, GROUP_LENGTHS[1], ORIGINAL_ATTRIBUTES_SEQUENCE)


class FileChangedError(Exception):
    """The file became shorter while it was compared."""


class _Gap(NamedTuple):
    """Bytes of the data set that the archive may have otherwise, or (of no length) has additionally."""

    start: int
    end: int
    tag: int


class _DifferentError(Exception):
    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset


def difference(header: InstanceHeader, fd: int, stored: Iterator[bytes]) -> str:
    """What differs, in one sentence; empty when nothing does.

    Args:
        header: what `read_instance` found in the file that is open at `fd`.
        fd: stays open.
        stored: the archive's instance; not read on after a difference.

    Raises:
        pacs.archive.ArchiveUnavailableError: of `stored`.
        FileChangedError: the file is not the one that `header` is of.
        OSError: the file cannot be read.
    """
    stream = Stream(stored)
    try:
        meta = read_file_meta(stream)
        if meta.transfer_syntax_uid != header.syntax.uid:
            return TRANSCODED
        if header.syntax.is_deflated:
            return _compare(header, fd, stream.inflated(meta.end), 0)
        return _compare(header, fd, stream, meta.end)
    except RefusedFileError:
        return UNREADABLE_THERE


def _compare(header: InstanceHeader, fd: int, stream: Stream, at: int) -> str:
    source = _source(header, fd)
    position = _start(header)
    try:
        for gap in (*_gaps(header), _Gap(header.end, header.end, 0)):
            at = _same(source, position, gap.start, stream, at)
            at = _past(stream, at, gap.tag, header.syntax, header.limits)
            position = gap.end
    except _DifferentError as found:
        return PIXELS if _is_pixel_data(header, fd, found.offset) else ATTRIBUTES
    return "" if stream.is_over(at) else LONGER


def _source(header: InstanceHeader, fd: int) -> InflatedSource | _Ranges:
    if header.syntax.is_deflated:
        return InflatedSource(fd, header.meta.end, header.limits)
    return _Ranges(fd)


def _start(header: InstanceHeader) -> int:
    return 0 if header.syntax.is_deflated else header.meta.end


class _Ranges:
    """Ranges of an open file, in chunks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def copy(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            chunk = os.pread(self._fd, min(_CHUNK, end - start), start)
            if not chunk:
                raise FileChangedError
            start += len(chunk)
            yield chunk


def _gaps(header: InstanceHeader) -> list[_Gap]:
    """Where the importer changes the data set, in order."""
    found = []
    for tag in _TAGGED:
        element = header.elements.get(tag)
        if element is not None:
            found.append(_Gap(element.start, element.end, tag))
        elif tag not in GROUP_LENGTHS:
            place = header.after.get(tag, header.end)
            found.append(_Gap(place, place, tag))
    return sorted(found)


def _same(source: InflatedSource | _Ranges, start: int, end: int, stream: Stream, at: int) -> int:
    """Go through a range of the file, which the archive has at `at`, to its end there."""
    for ours in source.copy(start, end):
        theirs = stream.up_to(at, len(ours))
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs, strict=False))
            raise _DifferentError(start + next((n for n, (a, b) in pairs if a != b), len(theirs)))
        start += len(ours)
        at += len(ours)
    return at


def _past(stream: Stream, at: int, tag: int, syntax: TransferSyntax, limits: Limits) -> int:
    """Past this element, if the archive has it at `at`."""
    head = stream.up_to(at, _TAG)
    if not tag or len(head) < _TAG:
        return at
    group, number, _ = syntax.encoding.plain.unpack(head + bytes(4))
    if group << 16 | number != tag:
        return at
    return next(Walker(stream, at, syntax, limits).elements())[5]


def _is_pixel_data(header: InstanceHeader, fd: int, offset: int) -> bool:
    source: Source = FileSource(fd, header.limits)
    if header.syntax.is_deflated:
        source = InflatedSource(fd, header.meta.end, header.limits)
    for tag, _, _, _, _, end in Walker(source, _start(header), header.syntax, header.limits).elements():
        if offset < end:
            return tag >> 16 == _PIXEL_GROUP
    return False
