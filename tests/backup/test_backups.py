"""Backups as the steps make them: what is inside agrees with the index; how they are verified and kept."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from admin.backup.images import relative
from admin.backup.manifest import Manifest, digest_of
from admin.backup.shelf import Shelf

from .conftest import NAMES, Store, dump_of, is_same_file, new_uuid, tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST, SECOND = NAMES[0], NAMES[1]


def test_a_backup_holds_what_the_index_names_and_says_what_it_counted(store: Store) -> None:
    uuids = [store.store(f"image {number}".encode()) for number in range(20)]
    place = store.back_up(FIRST)
    manifest = Manifest.read(place)
    assert {path.name for path in place.glob("dicom/*/*/*")} == set(uuids)
    assert (place / "dicom" / relative(uuids[3])).read_bytes() == b"image 3"
    assert manifest.images is not None
    assert manifest.images.files == 20
    assert manifest.databases["catalog"]["public.studies"] == 2
    assert manifest.databases["orthanc"]["public.attachedfiles"] == 20
    assert manifest.resources == {"patients": 1, "studies": 1, "series": 0, "instances": 1}
    assert (manifest.catalog_revision, manifest.postgres) == ("0001", 170011)
    assert manifest.services == {"orthanc": "orthancteam/orthanc:26.8.1"}
    assert any("password" in text for text in manifest.secret)
    assert not any("IMAGES" in text for text in manifest.absent)
    assert "complete and as it was made" in store.done("verify", FIRST, "--postgres", "17")


def test_only_the_owner_can_read_it(store: Store) -> None:
    store.store(b"an image")
    place = store.back_up(FIRST)
    assert place.stat().st_mode & 0o777 == 0o700


def test_a_backup_without_images_says_so_loudly(store: Store) -> None:
    store.store(b"an image")
    place = store.back_up(FIRST, with_images=False)
    assert not (place / "dicom").exists()
    assert "THE IMAGES" in Manifest.read(place).absent[0]
    assert "not inside" in store.done("list")
    told = json.loads(store.done("list", "--json"))
    assert (told["name"], told["images"], told["fault"]) == (FIRST, None, None)
    (place / Manifest.NAME).write_bytes(b"{}")
    assert json.loads(store.done("list", "--json"))["fault"]


def test_what_is_stored_and_deleted_while_it_is_copied_ends_as_the_index_has_it(store: Store) -> None:
    kept, deleted = store.store(b"kept"), store.store(b"deleted soon")
    store.done("begin", FIRST)
    store.done("copy", FIRST)
    store.delete(deleted)
    late = store.store(b"stored late")
    unknown = store.store(b"not yet in the index")
    del store.index[unknown]
    store.done("agree", FIRST, typed=store.attached())
    partial = store.shelf.root / f"{FIRST}.partial"
    assert {path.name for path in partial.glob("dicom/*/*/*")} == {kept, late}


def test_a_file_that_was_copied_while_it_was_written_is_copied_again(store: Store) -> None:
    name = store.store(b"half")
    store.done("begin", FIRST)
    store.done("copy", FIRST)
    store.store(b"half, and the rest of it", name)
    store.done("agree", FIRST, typed=store.attached())
    assert (store.shelf.root / f"{FIRST}.partial/dicom" / relative(name)).read_bytes().endswith(b"rest of it")


def test_files_that_the_index_names_and_the_archive_lacks_ask_for_a_new_dump(store: Store) -> None:
    gone, there = store.store(b"gone"), store.store(b"there")
    store.done("begin", FIRST)
    store.done("copy", FIRST)
    index = store.attached()
    store.delete(gone)
    partial = store.shelf.root / f"{FIRST}.partial"
    (partial / "dicom" / relative(gone)).unlink()  # as if it had gone before it was copied
    (partial / ".work" / "copied" / gone[:2]).write_text("")
    result = store.run("agree", FIRST, typed=index)
    assert result.exit_code == 3
    # The next dump does not name it any more.
    store.done("agree", FIRST, typed=store.attached())
    # An archive that lost a file for good must not be without backups for ever.
    told = store.done("agree", FIRST, "--accept-missing", typed=index)
    assert "warning" in told
    assert (partial / "dicom" / "missing.txt").read_text() == f"{gone}\n"
    assert {path.name for path in partial.glob("dicom/*/*/*")} == {there}


def test_images_of_the_last_backup_are_shared_and_survive_its_end(store: Store) -> None:
    old, changed = store.store(b"old image"), store.store(b"as it was")
    first = store.back_up(FIRST)
    new = store.store(b"new image")
    store.store(b"as it is ", changed)
    os.utime(store.storage / relative(changed), ns=(1, 1))
    second = store.back_up(SECOND)
    assert is_same_file(first / "dicom" / relative(old), second / "dicom" / relative(old))
    assert (second / "dicom" / relative(changed)).read_bytes() == b"as it is "
    shutil.rmtree(first)
    assert (second / "dicom" / relative(new)).read_bytes() == b"new image"
    store.done("verify", SECOND)


def test_without_hard_links_images_are_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = store.store(b"an image")
    store.back_up(FIRST)

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    second = store.back_up(SECOND)
    assert (second / "dicom" / relative(name)).read_bytes() == b"an image"


def test_what_is_no_file_of_the_archive_is_not_copied(store: Store) -> None:
    store.store(b"an image")
    (store.storage / "index.db").write_bytes(b"x")
    strange = store.storage / "ab" / "cd" / "ab-not-a-uuid"
    strange.parent.mkdir(parents=True, exist_ok=True)
    strange.write_bytes(b"x")
    link = new_uuid()
    place = store.storage / relative(link)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to("/etc/hostname")
    assert len(list(store.back_up(FIRST).glob("dicom/*/*/*"))) == 1


def an_image(place: Path) -> Path:
    return next(place.glob("dicom/*/*/*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(content))


def relist(place: Path) -> None:
    """A list that lies about its images must not pass for the list that was made."""
    sums = next(place.glob("dicom/*.sha256"))
    sums.write_text(sums.read_text().replace("a", "b", 1).replace("c", "d", 1))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte of a dump": lambda place: flip(place / "catalog.dump"),
    "a byte of an image": lambda place: flip(an_image(place)),
    "a byte of the manifest": lambda place: flip(place / "manifest.json"),
    "a byte of a list": relist,
    "a dump is missing": lambda place: (place / "orthanc.dump").unlink(),
    "an image is missing": lambda place: an_image(place).unlink(),
    "a list and its images are missing": lambda place: next(place.glob("dicom/*.sha256")).unlink(),
    "the manifest's digest is missing": lambda place: (place / "manifest.sha256").unlink(),
    "a dump is cut off": lambda place: os.truncate(place / "keycloak.dump", 3),
    "an additional file": lambda place: (place / "more.dump").write_bytes(b""),
    "an additional file in a folder": lambda place: (place / "dicom" / "more").write_bytes(b""),
    "an additional image": lambda place: shutil.copy(
        an_image(place), an_image(place).with_name(an_image(place).name[:-4] + "0000")
    ),
    "an additional link": lambda place: (place / "more").symlink_to("/etc"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_verifying_finds(store: Store, damage: Callable[[Path], object]) -> None:
    for number in range(3):
        store.store(f"image {number}".encode())
    place = store.back_up(FIRST)
    store.done("verify", FIRST)
    damage(place)
    result = store.run("verify", FIRST)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output


def test_a_backup_of_a_newer_version_is_refused(store: Store) -> None:
    place = store.back_up(FIRST, with_images=False)
    manifest = Manifest.read(place)
    assert store.run("verify", FIRST, "--postgres", "16").exit_code == 1
    newer = json.loads((place / "manifest.json").read_text()) | {"catalog_revision": "9999"}
    Manifest(**{**vars(manifest), "catalog_revision": "9999"}).write(place)
    assert "newer" in store.run("verify", FIRST, "--postgres", "17").output
    Manifest(**{**vars(manifest), "format": 3}).write(place)
    assert "newer version" in store.run("verify", FIRST).output
    assert newer["format"] == 1


def test_a_backup_of_an_older_version_holds_the_realm_once_more_and_is_verified(store: Store) -> None:
    place = store.back_up(FIRST, with_images=False)
    realm = place / "keycloak-realm.json"
    realm.write_text("{}")
    manifest = Manifest.read(place)
    replace(manifest, files=[*manifest.files, digest_of(realm)]).write(place)
    assert "complete and as it was made" in store.done("verify", FIRST)
    realm.write_text("[]")
    assert "keycloak-realm.json is not as it was backed up" in store.run("verify", FIRST).stderr


def test_a_dump_that_is_cut_off_is_no_dump(store: Store) -> None:
    store.done("begin", FIRST)
    whole = dump_of("studies", "study_uid", ["1.2", "1.3"])
    assert store.run("rows", FIRST, "catalog", typed=whole[:-6]).exit_code == 1
    assert store.run("rows", FIRST, "catalog", typed="").exit_code == 1
    assert store.run("agree", FIRST, typed=store.attached()[:-4]).exit_code == 1


def test_where_there_are_no_backups_it_is_told_where_to_ask(store: Store) -> None:
    (store.root / "backups").rmdir()
    done = store.run("list")
    assert done.exit_code == 1
    assert "on the server: ./clinicpacs backup list" in done.stderr


def test_an_unfinished_backup_is_none(store: Store) -> None:
    store.back_up(FIRST)
    store.done("begin", SECOND)
    (store.shelf.root / f"{SECOND}.partial" / "catalog.dump").write_bytes(b"half")
    assert store.shelf.complete() == [FIRST]
    assert store.run("verify", SECOND).exit_code == 1
    assert store.run("verify", "../etc").exit_code == 1
    assert f"{SECOND}.partial was never finished" in store.done("begin", NAMES[2])
    assert not (store.shelf.root / f"{SECOND}.partial").exists()


def test_a_step_left_out_leaves_no_backup(store: Store) -> None:
    store.done("begin", FIRST)
    result = store.run(
        "seal", FIRST, "--keep", "1", "--postgres", "170000", "--paused-at", "2026-01-01T00:00:00Z"
    )
    assert result.exit_code == 1
    assert store.shelf.complete() == []


def test_the_newest_are_kept(store: Store) -> None:
    for name in NAMES[:5]:
        store.back_up(name, with_images=False, keep=3)
    assert store.shelf.complete() == [*reversed(NAMES[2:5])]


def test_the_only_one_with_images_is_never_removed(store: Store) -> None:
    store.store(b"an image")
    store.back_up(NAMES[0])
    store.back_up(NAMES[1])
    for name in NAMES[2:6]:
        store.back_up(name, with_images=False, keep=2)
    assert store.shelf.complete() == [NAMES[5], NAMES[4], NAMES[1]]
    store.done("verify", NAMES[1])


def test_an_unfinished_or_strange_folder_counts_for_nothing(store: Store) -> None:
    store.back_up(NAMES[0], with_images=False)
    (store.shelf.root / NAMES[18]).mkdir()
    (store.shelf.root / "notes").mkdir()
    (store.shelf.root / f"{NAMES[17]}.partial").mkdir()
    assert Shelf(store.shelf.root).prune(1) == []
    assert store.shelf.complete() == [NAMES[0]]
    with pytest.raises(ValueError, match="keep must be at least 1"):
        store.shelf.prune(0)


def test_a_removal_that_was_interrupted_leaves_no_backup_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES[:3]:
        store.back_up(name, with_images=False)

    def die(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            store.shelf.prune(1)
    assert store.shelf.complete() == [NAMES[2], NAMES[0]]
    assert store.shelf.sweep() == [f".removing-{NAMES[1]}"]


def test_node_exporter_learns_of_it(store: Store) -> None:
    store.store(b"an image")
    store.back_up(FIRST)
    path = store.shelf.root / "metrics" / "clinicpacs_backup.prom"
    text = path.read_text()
    assert "clinicpacs_backup_includes_dicom 1.0" in text
    for metric in ("last_success_timestamp_seconds", "bytes", "seconds", "missing_files"):
        assert f"clinicpacs_backup_{metric} " in text
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_backup_without_images_does_not_stand_for_the_last_with_them(store: Store) -> None:
    store.store(b"an image")
    lost = store.store(b"lost in the archive")
    (store.storage / relative(lost)).unlink()
    path = store.shelf.root / "metrics" / "clinicpacs_backup.prom"

    def told() -> dict[str, str]:
        lines = (line.split() for line in path.read_text().splitlines() if line[0] != "#")
        return {name.removeprefix("clinicpacs_backup_"): value for name, value in lines}

    store.back_up(NAMES[0], with_images=False)
    assert not told().keys() & {"missing_files", "last_success_with_images_timestamp_seconds"}
    store.back_up(NAMES[1], lacking=True)
    of_images = told()
    assert of_images["missing_files"] == "1.0"
    store.back_up(NAMES[2], with_images=False)
    for metric in ("missing_files", "last_success_with_images_timestamp_seconds"):
        assert told()[metric] == of_images[metric]
    assert told()["last_success_timestamp_seconds"] > of_images["last_success_timestamp_seconds"]


def test_a_full_disk_is_noticed_before_a_byte_is_copied(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.store(b"an image")
    monkeypatch.setattr("admin.backup.copies.RESERVE_BYTES", 1 << 60)
    store.done("begin", FIRST)
    result = store.run("copy", FIRST)
    assert result.exit_code == 1
    assert "are free" in result.output
    assert list(store.shelf.root.glob("*/dicom/*/*/*")) == []


# --- the archive's files brought back ---


def test_the_archive_is_what_it_was_and_nothing_is_deleted(store: Store) -> None:
    kept, lost, damaged = (store.store(text) for text in (b"kept", b"lost", b"damaged"))
    before = tree(store.storage)
    store.back_up(FIRST)
    store.delete(lost)
    (store.storage / relative(damaged)).write_bytes(b"DAMAGED")
    inode = (store.storage / relative(kept)).stat().st_ino
    later = store.store(b"stored later")

    told = store.done("put-back", FIRST, "--aside", ".before")
    after = tree(store.storage)
    assert {path: digest for path, digest in after.items() if not path.startswith(".before")} == before
    assert (store.storage / ".before" / relative(later)).read_bytes() == b"stored later"
    assert (store.storage / ".before" / relative(damaged)).read_bytes() == b"DAMAGED"
    assert (store.storage / relative(kept)).stat().st_ino == inode
    assert "2 files copied, 1 were there" in told
    # Once more: nothing to do.
    assert "0 files copied, 3 were there" in store.done("put-back", FIRST, "--aside", ".before-again")
    assert not (store.storage / ".before-again").exists()
    # The archive may replace what it got back, and the backup stays as it is.
    assert not is_same_file(
        store.storage / relative(lost), store.shelf.root / FIRST / "dicom" / relative(lost)
    )


def test_an_archive_that_was_destroyed_is_whole_again(store: Store) -> None:
    for number in range(10):
        store.store(f"image {number}".encode())
    before = tree(store.storage)
    store.back_up(FIRST)
    shutil.rmtree(store.storage)
    store.storage.mkdir()
    store.done("put-back", FIRST, "--aside", ".before")
    assert tree(store.storage) == before


def test_nothing_is_moved_aside_before_all_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = store.store(b"lost")
    store.back_up(FIRST)
    store.delete(lost)
    later = store.store(b"stored later")

    def fail(*_args: object) -> None:
        raise OSError(5, "Input/output error", "dicom")

    monkeypatch.setattr("admin.backup.restored_images.copy_file", fail)
    assert store.run("put-back", FIRST, "--aside", ".before").exit_code == 1
    assert (store.storage / relative(later)).exists()


def test_the_folder_is_held_against_the_index(store: Store) -> None:
    uuids = [store.store(b"image") for _ in range(3)]
    index = "".join(f"{name}\t5\n" for name in uuids)
    assert "3 files" in store.done("check-images", typed=index)
    store.store(b"in no index")
    assert "in no index" in store.done("check-images", typed=index)
    (store.storage / relative(uuids[0])).unlink()
    (store.storage / relative(uuids[1])).write_bytes(b"cut")
    result = store.run("check-images", typed=index)
    assert result.exit_code == 1
    assert "2 files" in result.output
    store.done("check-images", "--missing", "2", typed=index)


COUNTS = [
    "catalog|public.alembic_version|1",
    "catalog|public.studies|2",
    "orthanc|public.attachedfiles|0",
    "orthanc|public.resources|3",
    "keycloak|public.user_entity|1",
]


def test_counts_are_compared_table_by_table(store: Store) -> None:
    store.back_up(FIRST, with_images=False)
    assert "all 5 tables" in store.done("compare", FIRST, typed="\n".join(COUNTS) + "\n")


@pytest.mark.parametrize(
    "counts",
    [
        [line.replace("studies|2", "studies|1") for line in COUNTS],
        COUNTS[:-1],
        [*COUNTS, "catalog|public.more|0"],
        [],
    ],
)
def test_a_difference_is_an_error(store: Store, counts: list[str]) -> None:
    store.back_up(FIRST, with_images=False)
    result = store.run("compare", FIRST, typed="".join(f"{line}\n" for line in counts))
    assert result.exit_code == 1
    assert "not as they were backed up" in result.output


def test_what_a_backup_holds_is_shown_and_told_to_the_script(store: Store) -> None:
    store.back_up(FIRST, with_images=False)
    assert "2 studies with an owner" in store.done("show", FIRST)
    assert store.done("field", FIRST, "paused_at") == "2026-01-01T03:04:05.500000+00:00\n"
    assert store.done("field", FIRST, "images") == "no\n"
    assert store.done("field", FIRST, "services") == "orthanc=orthancteam/orthanc:26.8.1\n"
