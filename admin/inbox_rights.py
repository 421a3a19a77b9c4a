"""Who may write into a clinic's inbox: its folder's mode and the ACL that what is made in it inherits.

With a default ACL the kernel leaves the creator's umask aside (acl(5), "Object creation and default ACLs"):
a folder made under umask 022 is writable for the group all the same, and the importer can move files out of
it. The ACL is written as the extended attribute that setfacl(1) writes (Linux, linux/posix_acl_xattr.h).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INBOX_MODE = 0o2770
"""Group-writable with the group inherited: the clinic's upload accounts and the importer share one group."""

_DEFAULT_ACL = "system.posix_acl_default"
_VERSION = struct.pack("<I", 2)
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_RWX, _NONE = 7, 0
_NO_ID = 0xFFFFFFFF


def default_acl(gid: int) -> bytes:
    """``user::rwx group::rwx group:GID:rwx mask::rwx other::---``, as the kernel takes it.

    The group is named, too: it then holds in folders that are moved in or given to another group.
    """
    entries = (
        (_USER_OBJ, _RWX, _NO_ID),
        (_GROUP_OBJ, _RWX, _NO_ID),
        (_GROUP, _RWX, gid),
        (_MASK, _RWX, _NO_ID),
        (_OTHER, _NONE, _NO_ID),
    )
    return _VERSION + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def grant(folder: Path) -> list[str]:
    """Make a clinic's folder one that its group can use, as far as we may; what is left to say about it.

    The group is this process's: the importer runs under the same one. File systems without ACLs, and network
    shares with rights of their own, are no failure, nor is a folder of somebody else, which stays as it is.

    Raises:
        OSError: the folder is gone.
    """
    gid, status = os.getgid(), folder.stat()
    try:
        # Only what is needed: a change of the folder's time would look like an upload.
        if status.st_gid != gid:
            os.chown(folder, -1, gid)
        if stat.S_IMODE(folder.stat().st_mode) != INBOX_MODE:
            folder.chmod(INBOX_MODE)
    except OSError as error:
        if status.st_uid != os.geteuid():
            return [_what_root_must_do(folder, gid, status.st_uid)]
        return [f"its file system does not take group and mode ({error.strerror}), it has rights of its own"]
    return _grant_by_default(folder, gid)


def _grant_by_default(folder: Path, gid: int) -> list[str]:
    unsupported = (
        "its file system has no default ACLs: folders made in it by other users must be group-writable "
        "(umask 002), or the importer cannot move files out of them"
    )
    if not hasattr(os, "setxattr"):
        return [unsupported]
    try:
        if _acl_of(folder) != default_acl(gid):
            os.setxattr(folder, _DEFAULT_ACL, default_acl(gid))
    except OSError:
        return [unsupported]
    return []


def _acl_of(folder: Path) -> bytes:
    try:
        return os.getxattr(folder, _DEFAULT_ACL)
    except OSError:  # none yet, or none possible: setting it tells
        return b""


def _what_root_must_do(folder: Path, gid: int, owner: int) -> str:
    return (
        f"it belongs to the user {owner}, so its rights were left as they are; if its files wait, run "
        f"as root: chown {os.geteuid()}:{gid} {folder}, and this command again"
    )
