"""Choosing among a clinic's failed files, and working through them one by one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from admin.rewriting import NotCorrectableError
from importer.files.failed import failed_files
from importer.files.moving import GoneError, StrangerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from importer.files.failed import FailedFile
    from pacs.ids import ClinicId


class NoSuchFailedFileError(LookupError):
    """A path that no failed file of the clinic has."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no failed file has the path {path!r}")


def choose(failed_root: Path, clinic_id: ClinicId, paths: Iterable[str]) -> list[FailedFile]:
    """The failed files at or below these paths; without paths, all that nobody has dismissed.

    Args:
        failed_root: FAILED_PATH.
        clinic_id: whose.
        paths: as they were in the inbox, as `DAY/PATH`, or as they lie in the failed folder.

    Raises:
        NoSuchFailedFileError: a path is nobody's.
        OSError: the failed folder cannot be read.
    """
    files = list(failed_files(failed_root, clinic_id))
    wanted = [(path, _below(failed_root, clinic_id, path)) for path in paths]
    if not wanted:
        return [file for file in files if not file.dismissed]
    chosen: dict[FailedFile, None] = {}
    for typed, path in wanted:
        matching = [file for file in files if _matches(file, path)]
        if not matching:
            raise NoSuchFailedFileError(typed)
        chosen.update(dict.fromkeys(matching))
    return list(chosen)


def _below(failed_root: Path, clinic_id: ClinicId, path: str) -> str:
    folder = (failed_root / clinic_id).resolve()
    full = Path(path).resolve()
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else os.path.normpath(path)


def _matches(file: FailedFile, path: str) -> bool:
    places = (file.path, f"{file.day}/{file.path}")
    return any(place == path or place.startswith(f"{path}/") for place in places)


def each(
    files: Iterable[FailedFile], work: Callable[[FailedFile], object]
) -> Iterator[tuple[FailedFile, str | None]]:
    """Every file with what went wrong, None where it worked; one file's trouble stops none of the others."""
    for file in files:
        try:
            work(file)
        except (GoneError, FileNotFoundError):
            yield file, "is no longer there"
        except StrangerError:
            yield file, "was written to meanwhile"
        except NotCorrectableError as error:
            yield file, str(error)
        except OSError as error:
            yield file, error.strerror or "cannot be moved"
        else:
            yield file, None
