"""What waits in a clinic's inbox, counted as the importer counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from importer.files.names import is_litter, is_under_way
from importer.files.tree import folder
from importer.inbox.look import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.ids import ClinicId


@dataclass(frozen=True)
class Waiting:
    """Files of one clinic that are to be imported.

    Attributes:
        files: how many; names that uploads under way use do not count.
        since: when the longest waiting one got there, in seconds since the epoch; None without files.
    """

    files: int = 0
    since: float | None = None


def waiting(inbox: Path, clinic_id: ClinicId) -> Waiting:
    """Count a clinic's waiting files; a clinic without a folder has none.

    Raises:
        OSError: the clinic's folder cannot be read.
    """
    files, since = 0, None
    for arrived in _arrivals(inbox, clinic_id):
        files += 1
        since = arrived if since is None else min(since, arrived)
    return Waiting(files, since)


def _arrivals(inbox: Path, clinic_id: ClinicId) -> Iterator[float]:
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        try:
            with folder(inbox, (clinic_id, *parts)) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield from _arrival(entry)
                    elif len(parts) < MAX_DEPTH and not is_under_way(entry.name):
                        pending.append((*parts, entry.name))
        except FileNotFoundError:
            continue  # a clinic's staff tidies up while we look
        except OSError:
            if not parts:
                raise


def _arrival(entry: os.DirEntry[str]) -> Iterator[float]:
    if not entry.is_file(follow_symlinks=False) or (is_under_way(entry.name) and not is_litter(entry.name)):
        return
    try:
        # The time of the inode's last change: that of modification may be older than the file's arrival.
        yield entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return
