"""Encrypted backups: what is readable without the key, and that all of it comes back with it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from admin.backup.crypt import new_key
from admin.backup.images import relative
from admin.backup.manifest import Manifest

from .conftest import NAMES, tree

if TYPE_CHECKING:
    from .conftest import Store

FIRST, SECOND = NAMES[:2]
PRIVATE, PUBLIC = new_key()
IMAGE = b"\0" * 128 + b"DICM Sample^Aurora" + bytes(200_000)


def test_nothing_of_it_can_be_read_without_the_key(store: Store) -> None:
    store.store(IMAGE)
    place = store.back_up(FIRST, key=PUBLIC)
    content = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    for told in (b"Sample^Aurora", b"dump of catalog", b"settings", PRIVATE.encode()):
        assert told not in content
    assert not list(place.glob("*.dump"))
    manifest = Manifest.read(place)
    assert (manifest.keys, manifest.format) == ([PUBLIC], 2)
    # Verifying needs no key.
    assert "as it was made" in store.done("verify", FIRST)
    image = next(place.glob("dicom/*/*/*"))
    image.chmod(0o600)
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert store.run("verify", FIRST).exit_code == 1


def test_all_of_it_comes_back_with_the_key(store: Store) -> None:
    names = [store.store(IMAGE + str(number).encode()) for number in range(3)]
    before = tree(store.storage)
    store.back_up(FIRST, key=PUBLIC)
    shutil.rmtree(store.storage)
    store.storage.mkdir()

    store.done("open", FIRST, typed=f"# made by age-keygen\n{PRIVATE}\n")
    opened = store.shelf.root / f".opened-{FIRST}"
    assert (opened / "catalog.dump").read_bytes() == f"dump of catalog {FIRST}".encode()
    assert (opened / "configuration.tar").read_bytes() == b"settings"
    assert opened.stat().st_mode & 0o077 == 0
    store.done("close", FIRST)
    assert not opened.exists()
    store.done("put-back", FIRST, "--aside", ".aside", typed=PRIVATE)
    assert tree(store.storage) == before
    assert "0 files copied, 3 were there" in store.done("put-back", FIRST, "--aside", ".aside", typed=PRIVATE)
    assert len(names) == 3


@pytest.mark.parametrize(
    "identity", ["", "AGE-SECRET-KEY-1NONE", new_key()[0]], ids=["none", "malformed", "another"]
)
def test_another_key_brings_nothing_back_and_leaves_nothing_open(store: Store, identity: str) -> None:
    store.store(IMAGE)
    store.back_up(FIRST, key=PUBLIC)
    shutil.rmtree(store.storage)
    store.storage.mkdir()
    for step in (("open", FIRST), ("put-back", FIRST, "--aside", ".aside")):
        result = store.run(*step, typed=identity)
        assert result.exit_code == 1
        assert "key" in result.output
        assert "Traceback" not in result.output
    assert not [path for path in store.storage.rglob("*") if path.is_file()]
    store.done("begin", SECOND)
    assert not list(store.shelf.root.glob(".opened-*"))


def test_images_are_shared_among_backups_to_one_key_and_with_no_other(store: Store) -> None:
    name = store.store(IMAGE)

    def inode(backup: str) -> int:
        return (store.shelf.root / backup / "dicom" / relative(name)).stat().st_ino

    for backup, key in zip(NAMES, (PUBLIC, PUBLIC, new_key()[1], "", ""), strict=False):
        store.back_up(backup, key=key)
    inodes = [inode(backup) for backup in NAMES[:5]]
    assert inodes[0] == inodes[1]
    assert inodes[3] == inodes[4]
    assert len(set(inodes)) == 3
    assert "as it was made" in store.done("verify", SECOND)


def test_a_key_that_is_none_stops_a_backup_before_it_begins(store: Store) -> None:
    result = store.run("begin", FIRST, "--key", "age1none")
    assert result.exit_code == 1
    assert "BACKUP_KEY" in result.output
    assert not list(store.shelf.root.iterdir())


def test_a_new_key_is_printed_in_both_halves(store: Store) -> None:
    told = store.run_plain("new-key")
    assert "BACKUP_KEY=age1" in told
    assert "\nAGE-SECRET-KEY-1" in told
