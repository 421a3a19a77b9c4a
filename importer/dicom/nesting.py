"""Which sequences and items are open at a place of a data set, and which of them Orthanc misreads.

A UN of undefined length holds items in implicit VR (PS3.5 section 6.2.2, note 5). What is in one of undefined
length Orthanc takes for explicit VR (`DicomStreamReader`), and four bytes of a value for a length: of 1 KB it
made 4 GB of memory (measured with 1.12.7). An item that states its length it passes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from importer.dicom.refusal import Reason, RefusedFileError

if TYPE_CHECKING:
    from importer.dicom.encoding import Encoding

# Noted for each file in hand. A real one has some thousands: one a frame.
_OPEN_ITEMS = 50_000


class OpenItem(NamedTuple):
    """An item of undefined length somewhere in the element `tag`: where it begins, and its delimiter."""

    tag: int
    start: int
    delimiter: int


class Frame:
    """An open sequence or item.

    Attributes:
        end: where it must be over at the latest.
        defined: whether it states its length.
        holds_items: whether it is a sequence.
        is_unknown: a UN of undefined length, with nothing of defined length around it.
        start: of an item that Orthanc misreads.
    """

    __slots__ = ("defined", "encoding", "end", "holds_items", "is_unknown", "start")

    def __init__(self, encoding: Encoding, end: int, *, defined: bool, holds_items: bool) -> None:
        self.encoding = encoding
        self.end = end
        self.defined = defined
        self.holds_items = holds_items
        self.is_unknown = False
        self.start: int | None = None


class Nesting:
    """A stack of our own: the file decides how deep this goes.

    Attributes:
        frames: those that are open, the innermost last.
        open_items: the outermost ones that Orthanc misreads, so far.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._tag = 0
        self.frames: list[Frame] = []
        self.open_items: list[OpenItem] = []

    def enter(self, frame: Frame, tag: int, vr: bytes) -> None:
        """A sequence begins. Raises RefusedFileError when it lies too deep."""
        if not self.frames:
            self._tag = tag
        frame.is_unknown = vr == b"UN" and not any(each.defined for each in (*self.frames, frame))
        self._push(frame)

    def enter_item(self, frame: Frame, start: int) -> None:
        """An item begins. Raises RefusedFileError when it lies too deep."""
        if self.frames[-1].is_unknown and not frame.defined:
            frame.start = start
        self._push(frame)

    def _push(self, frame: Frame) -> None:
        if len(self.frames) >= self._depth * 2:
            raise RefusedFileError(Reason.TOO_DEEP, f"Sequences nest deeper than {self._depth}.")
        self.frames.append(frame)

    def leave(self, delimiter: int) -> None:
        """The innermost is closed by its delimiter. Raises RefusedFileError when too many are to be noted."""
        start = self.frames.pop().start
        if start is not None:
            if len(self.open_items) >= _OPEN_ITEMS:
                raise RefusedFileError(Reason.TOO_MANY_ELEMENTS, "A UN has too many items.")
            self.open_items.append(OpenItem(self._tag, start, delimiter))
