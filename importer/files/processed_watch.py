"""Returns a file to the inbox whose writer went on after it was stored and filed: half of it was stored.

Nothing tells for certain that a writer is done. One that pauses for longer than the cooldown behind a
whole element has handed over what reads like a whole instance, and the kernel does not tell of the writers
of other users' files (`is_being_written`). What it writes after its pause goes into the same file, which a
rename has taken to processed; so for an hour it is looked whether the file grows, and it is imported again.

A copy between file systems leaves its writer behind: there `opening` has more patience.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from importer.files.moving import MoveError, return_to_inbox
from importer.files.tree import Identity, folder, identity_of, split
from importer.work import Known
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from importer.work import WaitingFile
    from pacs.ids import ClinicId

_log = logs.get(__name__)

WATCHED_SECONDS = 3600.0
WATCHED_FILES = 20_000
_EVERY_SECONDS = 10.0
_EFFORT = 20.0


class Filed(NamedTuple):
    """A file under processed: the day's folder, the path below it, what it was, and what it holds."""

    clinic_id: ClinicId
    day: str
    path: str
    identity: Identity
    known: Known
    at: float


class ProcessedWatch:
    """Of all clinics: the newest files that were filed, for an hour; after a restart from nothing.

    `add` may be called by any thread, `look` by one.
    """

    def __init__(self, processed: Path, inbox: Path, *, clock: Callable[[], float]) -> None:
        self._processed, self._inbox, self._clock = processed, inbox, clock
        self._filed: deque[Filed] = deque(maxlen=WATCHED_FILES)
        self._due = 0.0

    def add(self, file: WaitingFile, placed: str) -> None:
        """A file was filed at this path below its clinic's folder of processed."""
        day, _, path = placed.partition("/")
        known = file.known or Known()
        self._filed.append(Filed(file.clinic_id, day, path, file.identity, known, self._clock()))

    def look(self, ours: Collection[ClinicId]) -> None:
        """Look, if it is time, at the files of these clinics."""
        started = self._clock()
        if started < self._due:
            return
        # Those that stay are put behind what was filed during a look.
        watched = sorted((self._filed.popleft() for _ in range(len(self._filed))), key=attrgetter("at"))
        newest = {(each.clinic_id, each.known): each for each in watched}
        for each in watched:
            if started - each.at < WATCHED_SECONDS and each.clinic_id in ours:
                self._look_at(each, is_newest=newest[each.clinic_id, each.known] is each)
        ended = self._clock()
        self._due = ended + max(_EVERY_SECONDS, _EFFORT * (ended - started))

    def _look_at(self, file: Filed, *, is_newest: bool) -> None:
        *above, name = split(file.path)
        try:
            with folder(self._processed, (file.clinic_id, file.day, *above)) as descriptor:
                found = identity_of(descriptor, name)
        except OSError:
            return
        if found is None or found[:2] != file.identity[:2]:
            return
        # What changed without growing was changed by somebody else: `clinicpacs verify` is there to find it.
        if found.size <= file.identity.size:
            self._filed.append(file)
        elif is_newest:
            self._return(file, found)
        else:
            _log.warning("a stored file has grown and stays: a newer is stored", clinic=file.clinic_id)

    def _return(self, file: Filed, found: Identity) -> None:
        try:
            return_to_inbox(self._processed, self._inbox, (file.clinic_id, file.day), file.path, found)
        except (MoveError, OSError) as error:
            _log.warning("a stored file could not be returned", clinic=file.clinic_id, exc_info=error)
            self._filed.append(file)
        else:
            _log.warning("a stored file has grown and returns to the inbox", clinic=file.clinic_id)
