"""Names of files: which are left alone, which are litter, and where a name is taken, which comes next."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from importer.files.tree import LEAVING, NAME_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

ERROR_JSON = ".error.json"
"""Ending of the report beside a failed file."""

_UNDER_WAY_BEGINS = (".", "~")
_UNDER_WAY_ENDS = (".part", ".partial", ".tmp", ".filepart", ".crdownload")
_LITTER = ("thumbs.db", ".ds_store", "._*", "desktop.ini", "autorun.inf")


def is_litter(name: str) -> bool:
    """Whether a file is a file system's own: filed as skipped, whatever it holds."""
    lower = name.lower()
    return any(fnmatchcase(lower, pattern) for pattern in _LITTER)


def is_under_way(name: str) -> bool:
    """Whether an upload uses such a name until it is done: stays in the inbox until it is renamed.

    Litter wins over this rule. Holds for folders, too.
    """
    if name.startswith(LEAVING):
        return False
    return name.startswith(_UNDER_WAY_BEGINS) or name.lower().endswith(_UNDER_WAY_ENDS)


def in_inbox(name: str) -> str:
    """The name that a file had before it was on its way out when the importer died."""
    return name.removeprefix(LEAVING) or name


def candidates(name: str, *, reserve: int = 0) -> Iterator[str]:
    """The name, then `name (2).ext`, `name (3).ext` ...; each leaves `reserve` bytes for a longer ending.

    Shortened where the file system would refuse it, on a character's boundary.
    """
    ending = PurePosixPath(name).suffix
    stem = name.removesuffix(ending)
    limit = NAME_MAX - reserve
    # An "extension" that alone fills the name is none.
    if len(os.fsencode(ending)) > limit // 2:
        stem, ending = name, ""
    yield _fitted(stem, "", ending, limit)
    for number in count(2):
        yield _fitted(stem, f" ({number})", ending, limit)


def _fitted(stem: str, mark: str, ending: str, limit: int) -> str:
    room = limit - len(os.fsencode(mark + ending))
    while len(os.fsencode(stem)) > room:
        stem = stem[: max(1, room) if len(stem) > room else -1]
    return f"{stem}{mark}{ending}"


def failed_candidates(name: str) -> Iterator[str]:
    """Names for a failed file: room for `.error.json` behind, and never itself mistaken for a report."""
    for candidate in candidates(name, reserve=len(ERROR_JSON)):
        if not candidate.endswith(ERROR_JSON):
            yield candidate
