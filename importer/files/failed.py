"""Failed files and the reports beside them, for the importer and for the commands that look after them.

A failed file lies at ``failed/<clinic>/<YYYY-MM-DD>/<path in the clinic's inbox>``, its report beside it
under ``<name>.error.json``. A report without a file is the trace of a crash or of a file that was taken
away by hand: it explains nothing and is passed over.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from importer.files.moving import return_to_inbox
from importer.files.names import ERROR_JSON
from importer.files.report import Report, read_report, write_report
from importer.files.tree import Identity, exists, folder, remove_empty_folders, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from pacs.archive import Archive
    from pacs.ids import ClinicId

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ORPHAN_SECONDS = 60


@dataclass(frozen=True)
class FailedFile:
    """A file in the failed tree.

    Attributes:
        clinic_id: whose.
        day: the day's folder, `YYYY-MM-DD`.
        path: below the day's folder, which is where it was below the clinic's inbox. May hold surrogate
            escapes (`os.fsencode`), line breaks and a patient's name: never for a log.
        identity: of the file.
        report: None when there is none that can be read.
    """

    clinic_id: ClinicId
    day: str
    path: str
    identity: Identity
    report: Report | None

    @property
    def dismissed(self) -> bool:
        """Whether somebody has acknowledged it."""
        return self.report is not None and self.report.dismissed_at is not None

    def written_since(self, tolerance_ns: int = 0) -> bool:
        """Whether its writer went on after it failed.

        `tolerance_ns` is for file systems that round a time of modification later.
        """
        if self.report is None:
            return False
        moved = abs(self.identity.mtime_ns - self.report.mtime_ns) > tolerance_ns
        return moved or self.identity.size != self.report.size


def failed_files(
    failed_root: Path, clinic_id: ClinicId, days: set[str] | None = None
) -> Iterator[FailedFile]:
    """The failed files of a clinic, by day and path; of some days only if `days` says so.

    Raises:
        OSError: the tree cannot be read. A clinic without a folder has no failed files.
    """
    for day in day_folders(failed_root, clinic_id):
        if days is None or day in days:
            yield from _files_below(failed_root, clinic_id, day, ())


def day_folders(root: Path, clinic_id: ClinicId) -> list[str]:
    """The days' folders of a clinic in the failed tree or another, sorted; none without the clinic's folder.

    Raises:
        OSError: they cannot be read.
    """
    try:
        with folder(root, (clinic_id,)) as descriptor, os.scandir(descriptor) as entries:
            return sorted(entry.name for entry in entries if _DAY.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _files_below(root: Path, clinic_id: ClinicId, day: str, parts: tuple[str, ...]) -> Iterator[FailedFile]:
    try:
        files, folders = _listing(root, (clinic_id, day, *parts))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, identity, report in files:
        yield FailedFile(clinic_id, day, "/".join((*parts, name)), identity, report)
    for name in folders:
        yield from _files_below(root, clinic_id, day, (*parts, name))


def _listing(
    root: Path, parts: tuple[str, ...]
) -> tuple[list[tuple[str, Identity, Report | None]], list[str]]:
    with folder(root, parts) as descriptor:
        found: dict[str, Identity] = {}
        folders: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.name)
                    elif stat.S_ISREG(status.st_mode):
                        found[entry.name] = Identity.of(status)
        files = [
            (name, found[name], read_report(descriptor, name))
            for name in sorted(found)
            if not name.endswith(ERROR_JSON)
        ]
        return files, sorted(folders)


@contextmanager
def _folder_of(root: Path, file: FailedFile) -> Iterator[tuple[int, str]]:
    *above, name = split(file.path)
    with folder(root, (file.clinic_id, file.day, *above)) as descriptor:
        yield descriptor, name


def put_back(failed_root: Path, inbox_root: Path, file: FailedFile) -> str:
    """Put a failed file back where it was in the clinic's inbox; returns its path there.

    The importer takes it up again after the cooldown. Safe while the importer runs.

    Raises:
        importer.files.moving.GoneError: it is no longer there.
        importer.files.moving.StrangerError: it was written to or replaced since it was listed.
        OSError: it cannot be moved.
    """
    placed = return_to_inbox(failed_root, inbox_root, (file.clinic_id, file.day), file.path, file.identity)
    with suppress(FileNotFoundError), _folder_of(failed_root, file) as (folder_fd, name):
        if not exists(folder_fd, name):
            os.unlink(name + ERROR_JSON, dir_fd=folder_fd)
    *above, _ = split(file.path)
    remove_empty_folders(failed_root, (file.clinic_id, file.day, *above))
    return placed


def dismiss(failed_root: Path, file: FailedFile, now: datetime) -> Report:
    """Acknowledge a failed file: it stays where it is and is no longer counted. Returns its new report.

    Raises:
        FileNotFoundError: it is no longer there.
        OSError: its report cannot be written.
    """
    with _folder_of(failed_root, file) as (folder_fd, name):
        if not exists(folder_fd, name):
            raise FileNotFoundError
        known = read_report(folder_fd, name) or Report(
            "unknown", "The report was lost.", now, file.identity.size, file.identity.mtime_ns
        )
        report = replace(known, dismissed_at=now)
        write_report(failed_root, file.clinic_id, folder_fd, name, report)
        return report


def stored_since(archive: Archive, file: FailedFile) -> bool:
    """Whether the archive lists this file's instance: putting it back would replace what is there.

    Raises:
        pacs.archive.ArchiveUnavailableError: the archive gave no answer.
    """
    report = file.report
    if report is None or report.study_uid is None or report.sop_instance_uid is None:
        return False
    return archive.has_instance(report.study_uid, report.sop_instance_uid)


def remove_orphan_reports(failed_root: Path, clinic_id: ClinicId, now: datetime) -> None:
    """Remove reports whose file is gone: a crash, or a person who took the file away, left them.

    Only for the importer that serves the clinic: it alone is about to put a file beside a report.

    Raises:
        OSError: the tree cannot be read.
    """
    pending: list[tuple[str, ...]] = [(clinic_id, day) for day in day_folders(failed_root, clinic_id)]
    while pending:
        parts = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError), folder(failed_root, parts) as descriptor:
            with os.scandir(descriptor) as entries:
                found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            pending += [(*parts, name) for name, is_folder in found.items() if is_folder]
            for name in found:
                file = name.removesuffix(ERROR_JSON)
                if name.endswith(ERROR_JSON) and file not in found:
                    _remove_orphan(descriptor, file, now)


def _remove_orphan(folder_fd: int, name: str, now: datetime) -> None:
    with suppress(FileNotFoundError):
        written = os.stat(name + ERROR_JSON, dir_fd=folder_fd, follow_symlinks=False).st_mtime
        is_ours = read_report(folder_fd, name) is not None
        if is_ours and now.timestamp() - written > _ORPHAN_SECONDS and not exists(folder_fd, name):
            os.unlink(name + ERROR_JSON, dir_fd=folder_fd)
