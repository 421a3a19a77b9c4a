"""Puts files that were filed in processed since a moment back into the inbox, to be imported anew.

After a restore the archive knows nothing of what was stored since the backup; processed does. Of several
versions of one instance the one filed last must be stored last, and so must what waited in the inbox all
along: the importer goes by the order in which files got their names there (`st_ctime`, and in one tick of
the file system's clock by path). So they are put back one by one in the order in which they were filed, each
later than the one before, and what waited comes behind them.

A file in the inbox remembers when this was begun, so that a run that was interrupted is gone on with.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from admin.backup.filing_order import FilingOrder, file_system_time
from admin.processed import days, files_below, places
from importer.files.moving import GoneError, Spot, StrangerError, Target, move
from importer.files.names import candidates, is_litter, is_under_way
from importer.files.tree import (
    folder,
    identity_of,
    make_folder_beside,
    remove_empty_folders,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from admin.processed import Place
    from importer.files.tree import Identity
    from pacs.ids import ClinicId

JOURNAL = ".clinicpacs-refile"
# Some file systems keep even seconds only.
_GRAIN = timedelta(seconds=2)
# A file's day is of the time zone in which it was filed.
_ZONE = timedelta(days=1)


def filed_since(processed: Path, clinic_id: ClinicId, since: datetime) -> list[Place]:
    """What a clinic's files are that were filed since, in the order in which they were; litter is none.

    Raises:
        OSError: the tree cannot be read.
    """
    first_day = f"{since.astimezone(UTC) - _ZONE:%Y-%m-%d}"
    since_ns = int((since - _GRAIN).timestamp() * 1e9)
    found = (
        file
        for day in days(processed, clinic_id, first_day)
        for file in places(processed, clinic_id, day, _is_passed_over)
    )
    return sorted((file for file in found if file.filed_ns >= since_ns), key=lambda file: file.order)


def _is_passed_over(name: str) -> bool:
    """Whether the importer would not take it up."""
    return is_litter(name) or is_under_way(name)


class Refiler:
    """Puts files back; nobody imports meanwhile. `tell` gets how many files of a clinic are done."""

    def __init__(self, processed: Path, inbox: Path, since: datetime, tell: Callable[[int], None]) -> None:
        self._processed, self._inbox, self._since, self._tell = processed, inbox, since, tell
        self._began_ns = 0

    def begin(self) -> None:
        """Remember when this was begun, or find out when a run that was interrupted was.

        Raises:
            OSError: the inbox cannot be written to.
        """
        self._inbox.mkdir(parents=True, exist_ok=True)
        journal = self._inbox / JOURNAL
        with suppress(FileNotFoundError, ValueError):
            known = json.loads(journal.read_text(encoding="ascii"))
            if known["since"] == self._since.isoformat():
                self._began_ns = int(known["began_ns"])
                return
        self._began_ns = file_system_time(self._inbox)
        temporary = journal.with_name(f"{JOURNAL}.partial")
        text = json.dumps({"since": self._since.isoformat(), "began_ns": self._began_ns})
        with temporary.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(journal)

    def refile(self, clinic_id: ClinicId) -> tuple[int, int]:
        """Put one clinic's files back.

        Returns:
            How many, and how many that waited in its inbox could not be put behind them.

        Raises:
            importer.files.moving.MoveError: somebody else changes files in processed.
            OSError: a file cannot be moved; those before it are in the inbox, and this can be repeated.
        """
        files = filed_since(self._processed, clinic_id, self._since)
        # What a run that was interrupted has put back already.
        order = FilingOrder(max(self._in_inbox(clinic_id, after=True), default=(0, "")))
        for number, file in enumerate(files, 1):
            self._put_back(file, order)
            self._tell(number)
        return len(files), self._put_behind(clinic_id, order)

    def finish(self) -> None:
        """All clinics are done."""
        (self._inbox / JOURNAL).unlink(missing_ok=True)

    def _put_back(self, file: Place, order: FilingOrder) -> None:
        *above, name = split(file.path)
        with (
            folder(self._processed, (file.clinic_id, file.day, *above)) as source_fd,
            make_folder_beside(self._inbox, (file.clinic_id,), above, candidates) as (target_fd, beside),
        ):
            put = Target(target_fd, lambda: candidates(name), self._inbox, file.clinic_id)
            placed = move(Spot(source_fd, name, _identity(source_fd, name, file)), put)
            order.put_last(target_fd, placed, "/".join((*beside, placed)))
        remove_empty_folders(self._processed, (file.clinic_id, file.day, *above))

    def _put_behind(self, clinic_id: ClinicId, order: FilingOrder) -> int:
        """What waited before this was begun gets a later time than what was put back; how many did not."""
        if not order.used:
            return 0
        refused = 0
        for _, path in sorted(self._in_inbox(clinic_id, after=False)):
            *above, name = split(path)
            try:
                with folder(self._inbox, (clinic_id, *above)) as descriptor:
                    order.put_last(descriptor, name, path, touch=True)
            except FileNotFoundError:
                continue  # its clinic took it away
            except OSError:
                refused += 1
        return refused

    def _in_inbox(self, clinic_id: ClinicId, *, after: bool) -> list[tuple[int, str]]:
        """Time of change and path of what got into a clinic's inbox after this was begun, or before."""
        return [
            (status.st_ctime_ns, path)
            for path, status in files_below(self._inbox, (clinic_id,), _is_passed_over)
            if (status.st_ctime_ns >= self._began_ns) == after
        ]


def _identity(folder_fd: int, name: str, file: Place) -> Identity:
    """The file's, if it is as it was listed."""
    identity = identity_of(folder_fd, name)
    if identity is None:
        raise GoneError
    if identity.ctime_ns != file.filed_ns:
        raise StrangerError
    return identity
