"""A clinic's inbox folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pacs.ids import ClinicId

# Group-writable with the group inherited: the clinic's upload account and the importer share one group.
INBOX_MODE = 0o2770


def make_inbox(inbox: Path, clinic_id: ClinicId) -> bool:
    """Make the clinic's inbox folder; False when it was there, and then it is left as it is.

    Raises:
        NotADirectoryError: something else lies under that name; a link is not followed.
        OSError: it cannot be made.
    """
    folder = inbox / clinic_id
    inbox.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink() or not folder.is_dir():
            raise NotADirectoryError(20, "is not a folder", str(folder)) from None
        return False
    try:
        folder.chmod(INBOX_MODE)
    except OSError:
        # Network shares often have rights of their own and refuse this; the folder serves all the same.
        return True
    return True
