"""The files of one image go one after the other, in the order in which the clinic brought them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from importer.reading.opening import BEING_WRITTEN, INCOMPLETE, NOT_WRITABLE
from importer.sending import policy
from importer.work import Known, Settlement, put_in_place

if TYPE_CHECKING:
    from importer.work import Place, WaitingFile
    from pacs.ids import ClinicId

OVERTAKE_SECONDS = 30.0
"""An archive that never answered may still be storing the older version: so long after a newer one came."""
_REMEMBERED = 50_000
"""Images that were stored last, by their hashes: some 12 MB."""
_ENOUGH = 5
_OWN_TROUBLES = frozenset({"stuck", "unreadable", "internal-error", NOT_WRITABLE, BEING_WRITTEN, INCOMPLETE})
_SUPERSEDED = "A newer version of this image was stored while this one could not be."


class _Image(NamedTuple):
    clinic_id: ClinicId
    known: Known


def is_overdue(file: WaitingFile) -> bool:
    """Whether a file was tried so often, while others got through, that it is itself to blame."""
    return file.trouble in _OWN_TROUBLES and file.attempts >= _ENOUGH


class InstanceOrder:
    """Which of the files of one image has its turn, in the order first seen.

    It has it from when its header is read until it is finished. Two under way together could be stored in
    either order, and the older image would stay. An image is a clinic's own: an archive keeps it by study,
    series and SOPInstanceUID, and nobody's file may hold up another clinic's by naming its UID.
    """

    def __init__(self) -> None:
        self._holders: dict[_Image, WaitingFile] = {}
        self._parked: dict[_Image, deque[WaitingFile]] = {}
        self._stored: dict[int, Place] = {}

    def enter(self, file: WaitingFile) -> WaitingFile:
        """The file that has the turn; if it is another one, this one is parked until it is handed out."""
        image = _image(file)
        holder = self._holders.setdefault(image, file) if image else file
        if holder is not file and image:
            put_in_place(self._parked.setdefault(image, deque()), file)
        return holder

    def give_way(self, file: WaitingFile) -> WaitingFile | None:
        """The next newer file, which takes the turn of one that was tried often enough; None without any.

        The older one is kept as `overtaken`, and is sent again only if nothing becomes of the newer.
        """
        image = _image(file)
        if image is None or image not in self._parked or not is_overdue(file):
            return None
        newer = self._hand_on(image)
        newer.overtaken, file.overtaken = (*file.overtaken, file), ()
        return newer

    def outdated(self, file: WaitingFile) -> Settlement | None:
        """What becomes of a file of which a newer version is stored by now.

        It was not in line: missed while it was being renamed, not readable, or touched and watched anew.
        """
        if self._stored.get(hash(_image(file)), file.place) <= file.place:
            return None
        return _superseded(file)

    def supersede(self, file: WaitingFile) -> WaitingFile:
        """This file is stored: the first of those that it has overtaken has the turn, to be filed as failed.

        All of them are filed before it is: one that a crash left in the inbox alone would be stored over it.
        """
        for older in file.overtaken:
            older.settled = _superseded(older)
        return self._put_before(file, file) or file

    def leave(self, file: WaitingFile) -> WaitingFile | None:
        """The file is finished: the one that has the turn now, if one is parked or was overtaken."""
        if file.settled is not None and file.settled.outcome == "stored":
            key = hash(_image(file))
            self._stored.pop(key, None)
            self._stored[key] = file.place
            if len(self._stored) > _REMEMBERED:
                del self._stored[next(iter(self._stored))]
        return self._put_before(file)

    def _put_before(self, file: WaitingFile, *after: WaitingFile) -> WaitingFile | None:
        image = _image(file)
        if image is None or self._holders.get(image) is not file:
            return None
        before = [*file.overtaken, *after]
        file.overtaken = ()
        if before:
            self._parked.setdefault(image, deque()).extendleft(reversed(before))
        if image in self._parked:
            return self._hand_on(image)
        del self._holders[image]
        return None

    def _hand_on(self, image: _Image) -> WaitingFile:
        parked = self._parked[image]
        newer = self._holders[image] = parked.popleft()
        if not parked:
            del self._parked[image]
        return newer


def _superseded(file: WaitingFile) -> Settlement:
    return Settlement("failed", policy.SUPERSEDED, _SUPERSEDED, file.known or Known())


def _image(file: WaitingFile) -> _Image | None:
    if file.known is None or file.known.sop_instance_uid is None:
        return None
    return _Image(file.clinic_id, file.known)
