"""Walks the elements of a data set to its end by arithmetic, without reading what they hold.

A file that passes has one meaning only in all that says whose it is: where parsers are known to differ (DCMTK
under Orthanc reads on beyond a sequence whose item claims too much; pydicom searches for the delimiter of a
value of undefined length), the file is refused. Otherwise it could show one StudyInstanceUID to the importer
and another one to the archive.

Equal tags and tags out of order, which PS3.5 section 7.1 forbids, pass here. DCMTK keeps the first of two and
pydicom the last, so `importer.dicom.part10` refuses them where it takes the value and they differ, or where
it puts one in; a doubled StudyDescription costs nobody an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from importer.dicom.encoding import (
    EXPLICIT_LITTLE_UID,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    KNOWN_OTHERS,
    KNOWN_SEQUENCES,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED,
    tag_name,
)
from importer.dicom.nesting import Frame, Nesting
from importer.dicom.refusal import Reason, RefusedFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from importer.dicom.encoding import Encoding, TransferSyntax
    from importer.dicom.source import Limits, Source

_DELIMITERS = frozenset({ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER})
_DELIMITER_GROUP = 0xFFFE
_META_GROUP = 0x0002
_LOWEST_GROUP = 0x0008  # Of DICOM's own; what some PACS write below it is rare.
# A value in implicit VR may begin like an item by chance only where it is a block of numbers.
_NUMBERS = frozenset({0x7FE0})
_PIXEL_VRS = frozenset({b"OB", b"OW"})
_HEADER = 8
_TAG = 4
_FILLED = frozenset({b"\0" * _HEADER, b"\xff" * _HEADER})
_CAPITALS = frozenset(range(ord("A"), ord("Z") + 1))


class Element(NamedTuple):
    """Where an element of the top level lies. `length` is that of its value, or UNDEFINED."""

    tag: int
    vr: bytes
    start: int
    value: int
    length: int
    end: int


class _Head(NamedTuple):
    tag: int
    vr: bytes
    value: int
    length: int


class Walker:
    """Goes once through the data set that fills `source` from `start` on.

    Attributes:
        end: where the last element ended, once `elements` is through. What follows is none:
            `importer.dicom.padding` tells what it may be.
        open_items: see `importer.dicom.nesting`.
    """

    def __init__(self, source: Source, start: int, syntax: TransferSyntax, limits: Limits) -> None:
        self._source = source
        self._start = start
        self._end = self.end = source.size
        self._syntax = syntax
        self._left = limits.elements
        self._nesting = Nesting(limits.depth)
        self.open_items = self._nesting.open_items

    def elements(self) -> Iterator[tuple[int, bytes, int, int, int, int]]:
        """Each element of the top level, as in `Element`, once all that it holds was walked.

        Raises:
            RefusedFileError: the bytes are no data set that all parsers read alike.
        """
        read, encoding, limit = self._source.read, self._syntax.encoding, self._end
        # Nearly all elements: worth a way without a call.
        simple = SHORT_VRS if encoding.explicit else frozenset()
        position = self._start
        while position < limit:
            first = read(position, _HEADER)
            if len(first) == _HEADER:
                group, number, vr, length = encoding.short.unpack(first)
                end = position + _HEADER + length
                if vr in simple and _LOWEST_GROUP <= group < _DELIMITER_GROUP and end <= limit and self._left:
                    self._left -= 1
                    yield group << 16 | number, vr, position, position + _HEADER, length, end
                    position = end
                    continue
            if len(first) < _HEADER or first in _FILLED:
                break
            element = self._element(first, position, limit, encoding)
            yield element
            position = element.end
        self.end = position

    def _element(self, first: bytes, position: int, limit: int, encoding: Encoding) -> Element:
        head = self._parse(first, position, limit, encoding)
        group = head.tag >> 16
        if group == _META_GROUP or head.tag in _DELIMITERS or (encoding.explicit and not group):
            # DCMTK stops at a delimiter behind a sequence of defined length, pydicom reads on (measured);
            # and pydicom takes group 0000 at the beginning for a command in implicit VR.
            raise RefusedFileError(
                Reason.MALFORMED_ELEMENT, f"{tag_name(head.tag)} does not belong in a data set."
            )
        if head.tag == PIXEL_DATA and head.length == UNDEFINED and not self._syntax.is_encapsulated:
            _refuse_fragments()
        end, inner = self._value(head, limit, encoding)
        if inner is not None:
            end = self._skip_sequence(head, limit, inner)
        return Element(head.tag, head.vr, position, head.value, head.length, end)

    def walk_items(self, element: Element, encoding: Encoding) -> None:
        """Walk the value of an element of defined length as a sequence in another encoding."""
        head = _Head(element.tag, element.vr, element.value, element.length)
        self._skip_sequence(head, element.end, encoding)

    def _header(self, position: int, limit: int, encoding: Encoding) -> _Head:
        return self._parse(self._source.read(position, _HEADER), position, limit, encoding)

    def _parse(self, head: bytes, position: int, limit: int, encoding: Encoding) -> _Head:
        self._left -= 1
        if self._left < 0:
            raise RefusedFileError(Reason.TOO_MANY_ELEMENTS, "The data set has too many elements.")
        if position + _HEADER > limit:
            self._overrun(limit)
        group, number, vr, length = encoding.short.unpack(head)
        tag = group << 16 | number
        if not encoding.explicit or group == _DELIMITER_GROUP:
            if group == _DELIMITER_GROUP and tag not in _DELIMITERS:
                raise RefusedFileError(Reason.MALFORMED_SEQUENCE, f"{tag_name(tag)} is an unknown delimiter.")
            (length,) = encoding.uint32.unpack(head[4:])
            return _Head(tag, b"", position + _HEADER, length)
        if vr in SHORT_VRS:
            return _Head(tag, vr, position + _HEADER, length)
        if vr not in LONG_VRS:
            # DCMTK takes an unknown VR to have a long length, pydicom a short one; with `??` DCMTK reads on
            # behind a short one, and pydicom misses what follows (measured, DCMTK 3.6.7 and pydicom 3.0).
            raise RefusedFileError(Reason.UNKNOWN_VR, f"{tag_name(tag)} at byte {position} has no known VR.")
        if position + _HEADER + 4 > limit:
            self._overrun(limit)
        (length,) = encoding.uint32.unpack(self._source.read(position + _HEADER, 4))
        return _Head(tag, vr, position + _HEADER + 4, length)

    def _overrun(self, limit: int) -> NoReturn:
        if limit == self._end:
            raise RefusedFileError(Reason.TRUNCATED, "The file ends within an element.")
        raise RefusedFileError(
            Reason.MALFORMED_SEQUENCE,
            f"An element runs past the end of its sequence or item at byte {limit}.",
        )

    def _value(self, head: _Head, limit: int, encoding: Encoding) -> tuple[int, Encoding | None]:
        """Where the value ends; or where it begins, and the encoding of the items that it holds."""
        tag, vr, value, length = head
        if length == UNDEFINED and tag == PIXEL_DATA:
            return self._skip_fragments(head, limit, encoding), None
        if length != UNDEFINED and value + length > limit:
            self._overrun(limit)
        if vr == b"SQ" or (not vr and self._is_implicit_sequence(head, encoding)):
            return value, encoding
        if length != UNDEFINED:
            return value + length, None
        # PS3.5 section 6.2.2, note 5. In big endian pydicom reads such a value in big endian.
        if vr != b"UN" or encoding.big_endian:
            _refuse_undefined(tag)
        return value, IMPLICIT_LITTLE

    def _is_implicit_sequence(self, head: _Head, encoding: Encoding) -> bool:
        if head.tag in KNOWN_SEQUENCES:
            return True
        if head.length == UNDEFINED:
            # pydicom searches for the delimiter's bytes here instead of walking the items.
            if head.tag in KNOWN_OTHERS:
                _refuse_undefined(head.tag)
            return True
        if head.length < _TAG or head.tag >> 16 in _NUMBERS:
            return False
        # DCMTK's dictionary may know a private sequence here that ours does not.
        group, number, _ = encoding.plain.unpack(self._source.read(head.value, _TAG) + bytes(4))
        return group << 16 | number in _DELIMITERS

    def _skip_sequence(self, head: _Head, limit: int, encoding: Encoding) -> int:
        """The end of a sequence."""
        self._nesting.enter(self._open(head, limit, encoding, holds_items=True), head.tag, head.vr)
        stack = self._nesting.frames
        position = head.value
        while stack:
            frame = stack[-1]
            if position >= frame.end:
                if not frame.defined:
                    raise RefusedFileError(
                        Reason.MISSING_DELIMITER, f"A sequence or item is not closed before byte {frame.end}."
                    )
                stack.pop()
            else:
                position = self._step(position, frame)
        return position

    def _step(self, position: int, frame: Frame) -> int:
        """Past the next header, and past its value where that holds no items."""
        head = self._header(position, frame.end, frame.encoding)
        if frame.holds_items or head.tag in _DELIMITERS:
            if frame.holds_items and head.tag == ITEM:
                self._refuse_ambiguous_item(head.value, frame.encoding)
                item = self._open(head, frame.end, frame.encoding, holds_items=False)
                self._nesting.enter_item(item, position)
                return head.value
            closing = SEQUENCE_DELIMITER if frame.holds_items else ITEM_DELIMITER
            if frame.defined or head.length or head.tag != closing:
                raise RefusedFileError(
                    Reason.MALFORMED_SEQUENCE, f"{tag_name(head.tag)} at byte {position} is out of its place."
                )
            self._nesting.leave(position)
            return head.value
        end, inner = self._value(head, frame.end, frame.encoding)
        if inner is not None:
            self._nesting.enter(self._open(head, frame.end, inner, holds_items=True), head.tag, head.vr)
        return end

    def _refuse_ambiguous_item(self, value: int, encoding: Encoding) -> None:
        """Pydicom guesses the encoding of an item of a UN from its first element."""
        if self._syntax.encoding.explicit and not encoding.explicit:
            vr = self._source.read(value, _TAG + 2)[_TAG:]
            if vr and _CAPITALS.issuperset(vr):
                raise RefusedFileError(
                    Reason.MALFORMED_SEQUENCE, f"The item at byte {value} can be read in two encodings."
                )

    def _open(self, head: _Head, limit: int, encoding: Encoding, *, holds_items: bool) -> Frame:
        if head.length == UNDEFINED:
            return Frame(encoding, limit, defined=False, holds_items=holds_items)
        if head.value + head.length > limit:
            self._overrun(limit)
        return Frame(encoding, head.value + head.length, defined=True, holds_items=holds_items)

    def _skip_fragments(self, pixels: _Head, limit: int, encoding: Encoding) -> int:
        """The end of encapsulated pixel data (PS3.5 section A.4)."""
        # Icons are compressed in native files, too: DCMTK and pydicom read them.
        possible = self._syntax.is_encapsulated or self._syntax.uid == EXPLICIT_LITTLE_UID
        if not (possible and encoding.explicit and pixels.vr in _PIXEL_VRS):
            _refuse_fragments()
        position = pixels.value
        while position < limit and (head := self._source.read(position, _HEADER)) not in _FILLED:
            tag, _, value, length = self._parse(head, position, limit, encoding)
            if tag == SEQUENCE_DELIMITER and length == 0:
                return value
            if tag != ITEM or length == UNDEFINED:
                raise RefusedFileError(
                    Reason.MALFORMED_PIXEL_DATA, f"No fragment of pixel data begins at byte {position}."
                )
            position = value + length
        if position > limit:
            self._overrun(limit)
        raise RefusedFileError(Reason.MISSING_DELIMITER, "The fragments of pixel data are not closed.")


def _refuse_fragments() -> NoReturn:
    raise RefusedFileError(
        Reason.MALFORMED_PIXEL_DATA,
        "Pixel data has an undefined length, but the transfer syntax does not encapsulate it.",
    )


def _refuse_undefined(tag: int) -> NoReturn:
    raise RefusedFileError(Reason.UNDEFINED_LENGTH, f"{tag_name(tag)} must not have an undefined length.")
