"""Whether the archive has of a file what the importer sent: every byte, and the clinic written into it.

The importer sends the ranges of the file as they are, around a new InstitutionName and a new item of
OriginalAttributesSequence (`importer.dicom.tag`). So both are gone through side by side, in chunks, and
what stands between these ranges is known (`admin.verifying.tagged`). Only the lengths of groups and the file
meta information may differ. A deflated data set is compared inflated, because it is deflated anew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from admin.verifying.stream import Stream
from admin.verifying.tagged import CLINIC, HISTORY, TagError, Tagged
from importer.dicom.meta import read_file_meta
from importer.dicom.part10 import ORIGINAL_ATTRIBUTES_SEQUENCE
from importer.dicom.refusal import RefusedFileError
from importer.dicom.source import FileSource
from importer.dicom.transcode import InflatedSource
from importer.dicom.walk import Walker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from importer.dicom.part10 import InstanceHeader
    from importer.dicom.source import Source
    from pacs.ids import ClinicId

    MayHaveHad = Callable[[Sequence[ClinicId]], bool]

PIXELS = "its pixel data differs in the archive"
ATTRIBUTES = "its attributes differ in the archive"
TRANSCODED = "the archive has it in another transfer syntax"
LONGER = "the archive has more of it"
UNREADABLE_THERE = "what the archive has is not a whole DICOM instance"

_CHUNK = 1 << 18
_PIXEL_GROUP = 0x7FE0


class FileChangedError(Exception):
    """The file became shorter while it was compared."""


class _DifferentError(Exception):
    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset


def difference(header: InstanceHeader, fd: int, stored: Iterator[bytes], may_have_had: MayHaveHad) -> str:
    """What differs, in one sentence; empty when nothing does.

    Args:
        header: what `read_instance` found in the file that is open at `fd`.
        fd: stays open.
        stored: the archive's instance; not read on after a difference.
        may_have_had: whether these clinics may have owned the image, in this order.

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
        at = meta.end
        if header.syntax.is_deflated:
            stream, at = stream.inflated(meta.end), 0
        return _compare(header, fd, stream, at, may_have_had)
    except RefusedFileError:
        return UNREADABLE_THERE


def _compare(header: InstanceHeader, fd: int, stream: Stream, at: int, may_have_had: MayHaveHad) -> str:
    source = _source(header, fd)
    position = _start(header)
    tagged = Tagged(header, stream)
    try:
        for gap in tagged.gaps():
            at = gap.past(_same(source, position, gap.start, stream, at))
            position = gap.end
        at = _same(source, position, header.end, stream, at)
    except TagError as found:
        return str(found)
    except _DifferentError as found:
        return _sentence(header, fd, found.offset)
    if not stream.is_over(at):
        return LONGER
    return "" if may_have_had(tagged.owners) else CLINIC


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


def _sentence(header: InstanceHeader, fd: int, offset: int) -> str:
    source: Source = FileSource(fd, header.limits)
    if header.syntax.is_deflated:
        source = InflatedSource(fd, header.meta.end, header.limits)
    for tag, _, _, _, _, end in Walker(source, _start(header), header.syntax, header.limits).elements():
        if offset < end:
            if tag == ORIGINAL_ATTRIBUTES_SEQUENCE:
                return HISTORY
            return PIXELS if tag >> 16 == _PIXEL_GROUP else ATTRIBUTES
    return ATTRIBUTES
