"""Files of one SOPInstanceUID one after the other, in the order first seen.

Two under way together could be stored in either order, and the older image would stay.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importer.work import WaitingFile
    from pacs.ids import Uid


class InstanceOrder:
    """Which file has its instance's turn, from when its header is read until it is finished."""

    def __init__(self) -> None:
        self._holders: dict[Uid, WaitingFile] = {}
        self._parked: dict[Uid, deque[WaitingFile]] = {}

    def enter(self, file: WaitingFile) -> bool:
        """Whether the file has the turn; if not, it is parked until `leave` hands it out."""
        uid = _uid(file)
        if uid is None or self._holders.setdefault(uid, file) is file:
            return True
        self._parked.setdefault(uid, deque()).append(file)
        return False

    def leave(self, file: WaitingFile) -> WaitingFile | None:
        """The file is finished: the one that has the turn now, if one is parked."""
        uid = _uid(file)
        if uid is None or self._holders.get(uid) is not file:
            return None
        parked = self._parked.get(uid)
        if not parked:
            del self._holders[uid]
            return None
        follower = parked.popleft()
        if not parked:
            del self._parked[uid]
        self._holders[uid] = follower
        return follower


def _uid(file: WaitingFile) -> Uid | None:
    return file.known.sop_instance_uid if file.known else None
