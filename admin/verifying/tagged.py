"""What the importer wrote into an instance: whose it is, and what was there before.

`importer.dicom.tag` writes the clinic into InstitutionName and keeps what it replaces in a new last item of
OriginalAttributesSequence; each transfer (`admin.retagging`) does both once more, so that the items after the
first new one name the earlier owners in order. All of it is known but when that was: it is written anew here
and held against what the archive has.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from importer.dicom.encoding import IMPLICIT_LITTLE, ITEM_DELIMITER, UNDEFINED
from importer.dicom.part10 import INSTITUTION_NAME, ORIGINAL_ATTRIBUTES_SEQUENCE
from importer.dicom.tag import head_of, history_item, with_own_vr
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from admin.verifying.stream import Stream
    from importer.dicom.encoding import Encoding
    from importer.dicom.part10 import InstanceHeader

CLINIC = "the archive has it under another clinic"
IDENTIFIERS = "the VR of an identifier differs in the archive"
ITEMS = "the length of an item differs in the archive"
HISTORY = "its OriginalAttributesSequence differs in the archive"

# In which the importer always puts something in.
_GROUPS = frozenset({INSTITUTION_NAME >> 16, ORIGINAL_ATTRIBUTES_SEQUENCE >> 16})
_MOMENT = re.compile(rb"\d{14}\.\d{6}[+-]\d{4}")
_A_MOMENT = b"?" * 26
_CLINIC_ID = rb".{4}([a-z0-9][a-z0-9-]{0,62})"
# More than the longest clinic id and all that stands before it in an item.
_AHEAD = 128
_DELIMITER = 8
_TAG = _LENGTH = 4
_ITEM_DELIMITER = IMPLICIT_LITTLE.header(ITEM_DELIMITER, b"", 0)


class TagError(Exception):
    """The archive has it otherwise; the text is the sentence."""


class Gap(NamedTuple):
    """Bytes of the data set, from `start` to `end`, in whose place the archive has what the importer wrote.

    `past` goes from where that begins in the stream to where it ends, or raises `TagError`.
    """

    start: int
    end: int
    past: Callable[[int], int]


class Tagged:
    """Goes past what the importer wrote in place of, or between, the bytes of one file.

    Attributes:
        owners: the clinics that the instance was tagged for, one after another, once all gaps are passed.
    """

    def __init__(self, header: InstanceHeader, stream: Stream) -> None:
        self._header, self._stream = header, stream
        self._encoding = header.syntax.encoding
        element = header.elements.get(ORIGINAL_ATTRIBUTES_SEQUENCE)
        self._vr = (element.vr if element else b"") or b"SQ"
        self._inner = IMPLICIT_LITTLE if self._vr == b"UN" else self._encoding
        # What the head of the sequence leaves for the new items, where it tells.
        self._room: int | None = None
        self._is_open = False
        self.owners: list[ClinicId] = []

    def gaps(self) -> list[Gap]:
        """Where the importer changes the data set, in order (see `importer.dicom.tag`)."""
        retyped = list(with_own_vr(self._header))
        groups = {element.tag >> 16 for element, _ in retyped} | _GROUPS
        groups |= {item.tag >> 16 for item in self._header.open_items}
        elements = (self._header.elements.get(group << 16) for group in groups)
        gaps = [Gap(each.value, each.end, lambda at: at + _LENGTH) for each in elements if each]
        gaps += [Gap(each.start, each.value, partial(self._past, head)) for each, head in retyped]
        gaps += [self._institution_gap(), *self._history_gaps(), *self._item_gaps()]
        return sorted(gaps, key=lambda gap: gap[:2])

    def _past(self, expected: bytes, at: int) -> int:
        _require(self._stream.up_to(at, len(expected)) == expected, IDENTIFIERS)
        return at + len(expected)

    def _item_gaps(self) -> Iterator[Gap]:
        """Items get their length. Those that an earlier version stored kept a delimiter: both are right."""
        for item in self._header.open_items:
            yield Gap(item.start, item.start + _DELIMITER, partial(self._past_item_head, head_of(item)))
            yield Gap(item.delimiter, item.delimiter + _DELIMITER, self._past_delimiter)

    def _past_item_head(self, expected: bytes, at: int) -> int:
        found = self._stream.up_to(at, _DELIMITER)
        self._is_open = found == IMPLICIT_LITTLE.item_header(UNDEFINED)
        _require(self._is_open or found == expected, ITEMS)
        return at + _DELIMITER

    def _past_delimiter(self, at: int) -> int:
        if not self._is_open:
            return at
        _require(self._stream.up_to(at, _DELIMITER) == _ITEM_DELIMITER, ITEMS)
        return at + _DELIMITER

    def _institution_gap(self) -> Gap:
        element = self._header.elements.get(INSTITUTION_NAME)
        if element is None:
            place = self._header.after.get(INSTITUTION_NAME, self._header.end)
            return Gap(place, place, self._past_institution)
        return Gap(element.start, element.end, self._past_institution)

    def _history_gaps(self) -> list[Gap]:
        element = self._header.elements.get(ORIGINAL_ATTRIBUTES_SEQUENCE)
        if element is None:
            place = self._header.after.get(ORIGINAL_ATTRIBUTES_SEQUENCE, self._header.end)
            return [Gap(place, place, lambda at: self._past_items(self._past_head(at, 0)))]
        if element.length == UNDEFINED:
            end = element.end - _DELIMITER
            return [Gap(end, end, self._past_items)]
        head = Gap(element.start, element.value, lambda at: self._past_head(at, element.length))
        return [head, Gap(element.end, element.end, self._past_items)]

    def _past_institution(self, at: int) -> int:
        owner = self._clinic_at(at, self._encoding, CLINIC)
        self.owners.append(owner)
        expected = self._encoding.element(INSTITUTION_NAME, b"LO", owner.encode("ascii"))
        _require(self._stream.up_to(at, len(expected)) == expected, CLINIC)
        return at + len(expected)

    def _past_head(self, at: int, kept: int) -> int:
        """Past the header of the sequence, in which `kept` bytes come before the new items."""
        empty = self._encoding.header(ORIGINAL_ATTRIBUTES_SEQUENCE, self._vr, 0)
        found = self._stream.up_to(at, len(empty))
        _require(found[:-_LENGTH] == empty[:-_LENGTH], HISTORY)
        self._room = self._encoding.uint32.unpack(found[-_LENGTH:])[0] - kept
        return at + len(empty)

    def _past_items(self, at: int) -> int:
        """Past the item with what the importer replaced, and one for each transfer since."""
        begin = at
        header = self._header
        at = self._past_item(at, header.institution_vr, header.institution_name)
        *_, present = self.owners
        self.owners.clear()
        item = self._inner.item_header(0)[:_TAG]
        while self._stream.up_to(at, _TAG) == item:
            owner = self._clinic_at(at, self._inner, HISTORY)
            at = self._past_item(at, b"LO", owner.encode("ascii"))
            self.owners.append(owner)
        self.owners.append(present)
        _require(self._room in {None, at - begin}, HISTORY)
        _require(all(before != after for before, after in pairwise(self.owners)), HISTORY)
        return at

    def _past_item(self, at: int, vr: bytes, value: bytes) -> int:
        expected = history_item(self._inner, vr, value, _A_MOMENT)
        found = self._stream.up_to(at, len(expected))
        start = expected.rindex(_A_MOMENT)
        end = start + len(_A_MOMENT)
        same = (found[:start], found[end:]) == (expected[:start], expected[end:])
        _require(same and _MOMENT.fullmatch(found[start:end]), HISTORY)
        return at + len(expected)

    def _clinic_at(self, at: int, encoding: Encoding, sentence: str) -> ClinicId:
        """The clinic in the first InstitutionName; what it stands in is still to be compared."""
        tag = re.escape(encoding.header(INSTITUTION_NAME, b"LO", 0)[:_TAG])
        found = re.search(tag + _CLINIC_ID, self._stream.up_to(at, _AHEAD), re.DOTALL)
        if found is None:
            raise TagError(sentence)
        return ClinicId(found[1].decode("ascii"))


def _require(same: object, sentence: str) -> None:
    if not same:
        raise TagError(sentence)
