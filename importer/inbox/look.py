"""One look through the inbox: what waits, what does not belong there, which folders were emptied."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from importer.files.names import is_litter, is_under_way
from importer.files.scratch import SCRATCH
from importer.files.tree import LEAVING, Identity, folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from importer.inbox.stability import StabilityTracker
    from pacs.ids import ClinicId

MAX_DEPTH = 100
"""Folders below a clinic's that are looked into. Each level costs an open on the way to all below it."""

_NEVER_USED_SECONDS = 3600.0


class InboxUnavailableError(Exception):
    """The inbox cannot be read, or is not the one that it was: this tells nothing about the files."""


@dataclass
class Pass:
    """What one look through one clinic's folder found.

    Attributes:
        special: symbolic links, devices, pipes, and folders nested too deep: left alone.
        under_way: files whose names, or folders' names, say that they are being uploaded: left alone.
        unreadable: folders that could not be read, and what could not even be told to be a folder or a file,
            as `path/` below the clinic's.
    """

    special: int = 0
    under_way: int = 0
    unreadable: list[str] = field(default_factory=list)


class EmptyFolders:
    """Which folders may be removed: empty and unchanged for the cooldown. Clock passed in, monotonic.

    A folder that was never seen with anything in it stays an hour: some clients make all folders first and
    fill them one by one.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._used: set[str] = set()
        self._empty: dict[str, tuple[int, float]] = {}
        self._now_used: set[str] = set()
        self._now_empty: dict[str, tuple[int, float]] = {}

    def see(self, path: str, mtime_ns: int, now: float, *, empty: bool) -> None:
        """A folder is there, and like this."""
        if not empty or path in self._used:
            self._now_used.add(path)
        if empty:
            known = self._empty.get(path)
            since = known[1] if known and known[0] == mtime_ns else now
            self._now_empty[path] = mtime_ns, since

    def finish(self, now: float) -> list[str]:
        """The pass is over: the folders to remove."""
        self._used, self._now_used = self._now_used, set()
        self._empty, self._now_empty = self._now_empty, {}
        return [path for path, (_, since) in self._empty.items() if 0 < now - since >= self._patience(path)]

    def _patience(self, path: str) -> float:
        return self._cooldown if path in self._used else max(self._cooldown, _NEVER_USED_SECONDS)


class _Folder(NamedTuple):
    """A folder to look into; `under_way`: its name, or that of one above, says that it is being uploaded."""

    parts: tuple[str, ...]
    under_way: bool = False


@dataclass
class Look:
    """One look through one clinic's folder; the tracker and the emptied folders last from look to look.

    `beat` is called whenever it gets on.
    """

    inbox: Path
    clinic_id: ClinicId
    tracker: StabilityTracker
    empty_folders: EmptyFolders
    clock: Callable[[], float]
    beat: Callable[[], object] = lambda: None
    found: Pass = field(default_factory=Pass)

    def through(self) -> Pass:
        """Tell the tracker what is there, and remove folders emptied long enough ago.

        Raises:
            InboxUnavailableError: the clinic's folder cannot be read.
        """
        began = self.clock()
        self.tracker.begin(began)
        pending: list[_Folder] = [_Folder(())]
        while pending:
            parts, under_way = pending.pop()
            try:
                pending += self._into(parts, under_way=under_way)
            except OSError as error:
                if not parts:
                    raise InboxUnavailableError from error
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    self.found.unreadable.append("/".join(parts) + "/")
        unreadable = tuple(self.found.unreadable)
        self.tracker.finish(lambda path: f"{path}/".startswith(unreadable))
        for path in self.empty_folders.finish(began):
            self._remove(path)
        return self.found

    def _into(self, parts: tuple[str, ...], *, under_way: bool) -> list[_Folder]:
        inner: list[_Folder] = []
        prefix = "".join(f"{part}/" for part in parts)
        now = self.clock()
        empty = True
        with folder(self.inbox, (self.clinic_id, *parts)) as descriptor:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    self.beat()
                    empty = False
                    try:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        if not is_folder:
                            self._file(entry, prefix, now, under_way=under_way)
                    except OSError:
                        # A damaged block, a stale handle: nothing is known of this one, or what is in it.
                        self.found.unreadable.append(f"{prefix}{entry.name}/")
                        continue
                    if is_folder and (parts or entry.name != SCRATCH):
                        path = (*parts, entry.name)
                        inner.append(_Folder(path, under_way or is_under_way(entry.name)))
            if parts and not under_way:
                self.empty_folders.see(prefix, os.fstat(descriptor).st_mtime_ns, now, empty=empty)
        if len(parts) < MAX_DEPTH:
            return inner
        self.found.special += len(inner)
        return []

    def _file(self, entry: os.DirEntry[str], prefix: str, now: float, *, under_way: bool) -> None:
        if not entry.is_file(follow_symlinks=False):
            self.found.special += 1
        elif under_way or (is_under_way(entry.name) and not is_litter(entry.name)):
            self.found.under_way += 1
        elif not self.tracker.in_hand(prefix + entry.name):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                return
            # A copy may keep the time of modification; when it came here is the time of change. What was on
            # its way out when an importer died was stored before anything that waits.
            came_ns = 0 if entry.name.startswith(LEAVING) else status.st_ctime_ns
            self.tracker.see(prefix + entry.name, Identity.of(status), now, came_ns)

    def _remove(self, path: str) -> None:
        *above, name, _ = path.split("/")
        try:
            with folder(self.inbox, (self.clinic_id, *above)) as descriptor:
                os.rmdir(name, dir_fd=descriptor)
        except OSError:
            # Filled, renamed or forbidden meanwhile: the next look sees what is there.
            return


@dataclass
class Strangers:
    """What lies directly in the inbox and is not touched."""

    unknown_folders: int = 0
    stray_files: int = 0


def strangers(inbox: Path, known: Collection[ClinicId]) -> Strangers:
    """Count folders of no clinic and files directly in the inbox.

    Raises:
        InboxUnavailableError: the inbox cannot be read.
    """
    found = Strangers()
    try:
        with os.scandir(inbox) as entries:
            for entry in entries:
                if _may_be_folder(entry):
                    found.unknown_folders += entry.name not in known and not entry.name.startswith(".")
                else:
                    found.stray_files += not entry.name.startswith(".")
    except OSError as error:
        raise InboxUnavailableError from error
    return found


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True
