"""Backups encrypted by age (https://age-encryption.org/v1); the private keys are not on this machine.

EncryptionError: a key is none, or a file cannot be decrypted with the key that was given.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, BinaryIO

import pyrage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pyrage.x25519 import Identity, Recipient

    from admin.backup.copies import Coding

SUFFIX = ".age"


class EncryptionError(Exception):
    """A key that is none, or not the one that a backup was encrypted to."""


def new_key() -> tuple[str, str]:
    """A new key: the private half, as an identity file holds it, and the public one."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipients(keys: Iterable[str]) -> list[Recipient]:
    """The public keys of BACKUP_KEY.

    Raises:
        EncryptionError: one is none.
    """
    try:
        return [pyrage.x25519.Recipient.from_str(key) for key in keys]
    except pyrage.RecipientError:
        raise EncryptionError(
            "BACKUP_KEY: an age public key is needed, such as age1... has 62 characters"
        ) from None


def identities(text: str) -> list[Identity]:
    """The private keys of an identity file, which age-keygen writes: a key a line, and comments.

    Raises:
        EncryptionError: there is none in it.
    """
    lines = [line.strip() for line in text.splitlines()]
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise EncryptionError("the identity file holds no age key, a line AGE-SECRET-KEY-1...")
    return found


def encryption(keys: Iterable[str]) -> Coding:
    """What encrypts one file to these public keys.

    Raises:
        EncryptionError: one is none.
    """
    to = recipients(keys)

    def encrypt(source: BinaryIO, target: BinaryIO) -> None:
        try:
            pyrage.encrypt_io(source, target, to)
        except pyrage.EncryptError as error:
            # It keeps nothing of the error but its text; a full disk is the usual one.
            raise OSError(errno.EIO, f"cannot be encrypted: {error}") from error

    return encrypt


def decryption(identity: str) -> Coding:
    """What decrypts one file with an identity file's keys.

    Raises:
        EncryptionError: it holds none; and when the file is not encrypted to any of them, or was changed.
    """
    by = identities(identity)

    def decrypt(source: BinaryIO, target: BinaryIO) -> None:
        try:
            pyrage.decrypt_io(source, target, by)
        except (pyrage.DecryptError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise EncryptionError(
                "this is not the key that the backup was encrypted to, or the backup cannot be read"
            ) from None

    return decrypt


def encrypt_in_place(path: Path, keys: Iterable[str]) -> None:
    """Replace a file by its encrypted one, whose name ends in `.age`; durable before the plain one goes.

    Raises:
        EncryptionError: a key is none.
        OSError: it cannot be written.
    """
    encrypt = encryption(keys)
    with path.open("rb") as source, path.with_name(path.name + SUFFIX).open("xb") as target:
        os.fchmod(target.fileno(), 0o600)
        encrypt(source, target)
        target.flush()
        os.fsync(target.fileno())
    path.unlink()


def decrypt_into(folder: Path, source: Path, decrypt: Coding) -> Path:
    """Write what is in an encrypted file to a folder, under its name without `.age`.

    Raises:
        EncryptionError: it cannot be decrypted.
        OSError: it cannot be read or written.
    """
    place = folder / source.name.removesuffix(SUFFIX)
    with source.open("rb") as reading, place.open("xb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        decrypt(reading, writing)
    return place
