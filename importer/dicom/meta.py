"""Preamble and file meta information of a Part 10 file (PS3.10 section 7.1), read and written.

What is written is always new: nothing of the old preamble remains, and every fact stands once, so that all
parsers find the same transfer syntax and the same start of the data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from importer.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_BIG_UID,
    EXPLICIT_LITTLE,
    EXPLICIT_LITTLE_UID,
    IMPLICIT_LITTLE_UID,
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    tag_name,
    usual_vr,
)
from importer.dicom.refusal import Reason, RefusedFileError
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from importer.dicom.source import Source

MEDIA_STORAGE_DIRECTORY = Uid("1.2.840.10008.1.3.10")
IMPLEMENTATION_CLASS_UID = "2.25.118795503962599008644153201061128224896"
IMPLEMENTATION_VERSION_NAME = "CLINICPACS"

_PREAMBLE = 128
_PREFIX = b"DICM"
_GROUP_LENGTH = 0x00020000
_VERSION = 0x00020001
_SOP_CLASS = 0x00020002
_SOP_INSTANCE = 0x00020003
_TRANSFER_SYNTAX = 0x00020010
_IMPLEMENTATION_CLASS = 0x00020012
_IMPLEMENTATION_VERSION = 0x00020013
# Private information (0002,0102) may be of any size; more than this is no header. A hundred may be in hand.
_LIMIT = 1 << 18
# Far more than PS3.10 section 7.1 has.
_MOST = 100
# Of DirectoryRecordSequence (0004,1220), and how many elements can stand before it.
_DIRECTORY_GROUP, _DIRECTORY_RECORDS = 0x0004, 0x1220
_MOST_OF_DIRECTORY = 16


@dataclass(frozen=True)
class FileMeta:
    """The file meta information of a file, or its absence.

    Attributes:
        values: VR and value by tag; empty where the file has none.
        end: where the data set begins.
    """

    values: Mapping[int, tuple[bytes, bytes]]
    end: int

    @property
    def sop_class_uid(self) -> Uid | None:
        """Media Storage SOP Class UID (0002,0002); None also where it is no UID, for it is written anew."""
        try:
            return self._uid(_SOP_CLASS)
        except RefusedFileError:
            return None

    @property
    def transfer_syntax_uid(self) -> Uid | None:
        """Transfer Syntax UID (0002,0010).

        Raises:
            RefusedFileError: it is no UID.
        """
        return self._uid(_TRANSFER_SYNTAX)

    def _uid(self, tag: int) -> Uid | None:
        return parse_uid(tag, self.values.get(tag, (b"UI", b""))[1])

    def rewritten(self, *, sop_class: Uid, sop_instance: Uid, transfer_syntax: Uid) -> bytes:
        """Preamble, prefix and file meta information for the same data set in a new file."""
        values = dict(self.values) | {
            _VERSION: (b"OB", b"\0\1"),
            _SOP_CLASS: (b"UI", sop_class.encode()),
            _SOP_INSTANCE: (b"UI", sop_instance.encode()),
            _TRANSFER_SYNTAX: (b"UI", transfer_syntax.encode()),
            _IMPLEMENTATION_CLASS: (b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _IMPLEMENTATION_VERSION: (b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
        }
        values.pop(_GROUP_LENGTH, None)
        body = b"".join(EXPLICIT_LITTLE.element(tag, *values[tag]) for tag in sorted(values))
        length = EXPLICIT_LITTLE.element(_GROUP_LENGTH, b"UL", len(body).to_bytes(4, "little"))
        return bytes(_PREAMBLE) + _PREFIX + length + body


def parse_uid(tag: int, value: bytes) -> Uid | None:
    """The UID in the value of an element, or None in an empty one.

    Trailing NUL (PS3.5 section 9.1) and spaces are padding.

    Raises:
        RefusedFileError: anything else that is no UID (``malformed-uid``).
    """
    text = value.rstrip(b"\0 ")
    if not text:
        return None
    try:
        return _checked(text)
    except InvalidUidError as error:
        raise RefusedFileError(Reason.MALFORMED_UID, f"{tag_name(tag)} is {error}.") from None


# Of six UIDs in a file five are those of the file before.
@lru_cache(maxsize=256)
def _checked(text: bytes) -> Uid:
    return Uid(text.decode("ascii", "replace"))


def read_file_meta(source: Source) -> FileMeta:
    """The file meta information, also where the preamble is missing. Group 0002 ends where another begins.

    Its own group length is not relied on: devices get it wrong. Of an element that occurs twice the first
    counts, as for DCMTK: some programs put a second header behind the first.

    Raises:
        RefusedFileError: it is cut off (``truncated``) or cannot be parsed (``malformed-file-meta``).
    """
    head = source.read(0, _PREAMBLE + len(_PREFIX))
    has_preamble = head[_PREAMBLE:] == _PREFIX
    if not has_preamble and head[:2] != b"\2\0":
        return FileMeta({}, 0)
    position = _PREAMBLE + len(_PREFIX) if has_preamble else 0
    limit = min(source.size, position + _LIMIT)
    values: dict[int, tuple[bytes, bytes]] = {}
    while source.read(position, 2) == b"\2\0":
        tag, vr, value, position = _read_element(source, position, limit)
        values.setdefault(tag, (vr, value))
        if len(values) > _MOST:
            raise RefusedFileError(
                Reason.MALFORMED_FILE_META, "The file meta information has too many elements."
            )
    return FileMeta(values, position)


def _read_element(source: Source, position: int, limit: int) -> tuple[int, bytes, bytes, int]:
    head = source.read(position, 12)
    if len(head) < 8:  # noqa: PLR2004 - the shortest header
        raise RefusedFileError(Reason.TRUNCATED, "The file ends within the file meta information.")
    group, number, vr, length = EXPLICIT_LITTLE.short.unpack(head[:8])
    tag, position = group << 16 | number, position + 8
    has_vr = vr in SHORT_VRS or vr in LONG_VRS
    if vr in LONG_VRS:
        length = int.from_bytes(head[8:12], "little")
        position += 4
    elif not has_vr:
        # Some programs write it in implicit VR.
        vr, length = usual_vr(tag), int.from_bytes(head[4:8], "little")
    if length == UNDEFINED or position + length > limit:
        reason = Reason.TRUNCATED if has_vr and limit == source.size else Reason.MALFORMED_FILE_META
        raise RefusedFileError(reason, "The file meta information runs past its end.")
    return tag, vr, source.read(position, length), position + length


def is_directory(source: Source, position: int) -> bool:
    """Whether the data set at `position` has the DirectoryRecordSequence (PS3.3 section F.3).

    Whole images may call themselves a directory in their file meta information.
    """
    encoding = EXPLICIT_BIG if source.read(position, 2) == b"\0\4" else EXPLICIT_LITTLE
    for _ in range(_MOST_OF_DIRECTORY):
        head = source.read(position, 8)
        if len(head) < encoding.short.size:
            return False
        group, number, vr, length = encoding.short.unpack(head)
        if group != _DIRECTORY_GROUP:
            return False
        if number == _DIRECTORY_RECORDS:
            return True
        # All before it have a short VR, or none on media that are written wrongly.
        position += 8 + (length if vr in SHORT_VRS else encoding.uint32.unpack(head[4:])[0])
    return False


def guess_transfer_syntax(head: bytes) -> Uid | None:
    """The transfer syntax of a data set that does not state one, from its first six bytes.

    Such data sets come from old devices and are native; PS3.5 section 10.1 makes implicit VR the default.
    Identifying elements are in group 0008, so nothing else can come first.
    """
    vr = head[4:6]
    has_vr = vr in SHORT_VRS or vr in LONG_VRS
    if head[:2] == b"\0\x08" and has_vr:
        return EXPLICIT_BIG_UID
    if head[:2] != b"\x08\0":
        return None
    return EXPLICIT_LITTLE_UID if has_vr else IMPLICIT_LITTLE_UID
