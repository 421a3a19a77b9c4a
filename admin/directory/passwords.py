"""Passwords that an administrator gives out."""

from __future__ import annotations

import secrets

from admin.directory import InvalidUserError

PASSWORD_MAX = 1024
# No character that is mistaken for another one when it is read out over the telephone.
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


def check_password(password: str) -> str:
    """A password that both adapters can keep.

    Raises:
        InvalidUserError: when it is empty or longer than `PASSWORD_MAX` characters.
    """
    if not 0 < len(password) <= PASSWORD_MAX:
        raise InvalidUserError(f"a password has 1 to {PASSWORD_MAX} characters")
    return password


def temporary_password() -> str:
    """A password to be read out and changed at the first sign-in: 16 characters, 79 bits."""
    blocks = ("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(4))
    return "-".join(blocks)
