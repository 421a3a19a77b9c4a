"""A clinic's inbox folder."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from admin import inbox_rights

if TYPE_CHECKING:
    from pathlib import Path

    from pacs.ids import ClinicId


@dataclass(frozen=True)
class Inbox:
    """A clinic's folder.

    Attributes:
        folder: where it is.
        made: whether it was made just now.
        notes: sentences about its rights that an administrator should read; none where all is well.
    """

    folder: Path
    made: bool
    notes: tuple[str, ...] = ()


def make_inbox(inbox: Path, clinic_id: ClinicId) -> Inbox:
    """Make the clinic's inbox folder, or give the one that is there its rights back.

    Raises:
        NotADirectoryError: something else lies under that name; a link is not followed.
        OSError: it cannot be made.
    """
    folder = inbox / clinic_id
    inbox.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
        made = True
    except FileExistsError:
        if folder.is_symlink() or not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(folder)) from None
        made = False
    return Inbox(folder, made, tuple(inbox_rights.grant(folder)))
