"""One file from one folder to another: nothing overwritten, nothing lost."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from importer.files import moving, tree
from importer.files.moving import GoneError, Spot, StrangerError, Target, move
from importer.files.names import ERROR_JSON, candidates, failed_candidates, in_inbox, is_litter, is_under_way
from importer.files.scratch import SCRATCH, sweep_scratch, temporary_file
from importer.files.tree import (
    LEAVING,
    NotAPlainPathError,
    NotARegularFileError,
    folder,
    identity_of,
    make_folder,
)
from support.importing import NORTH

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["rename", "link", "copy", "other-device", "no-links"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """A source and a target tree, on each kind of file system that a move must cope with."""
    source, target = tmp_path / "inbox", tmp_path / "processed"
    if request.param == "other-device":
        if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system here")
        target = Path(tempfile.mkdtemp(dir="/dev/shm")) / "processed"
    if request.param != "rename":
        monkeypatch.setattr(tree, "_RENAMEAT2", None)
    if request.param in {"copy", "no-links"}:
        monkeypatch.setattr(moving.os, "link", _refuse_link)
    source.mkdir()
    yield source, target
    if request.param == "other-device":
        shutil.rmtree(target.parent)


def _refuse_link(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@contextmanager
def both(source: Path, target: Path) -> Iterator[tuple[int, int]]:
    with folder(source, ()) as source_fd, make_folder(target, (NORTH, "day")) as target_fd:
        yield source_fd, target_fd


def moved(places: tuple[Path, Path], name: str = "a.dcm", spot: Spot | None = None) -> str:
    source, target = places
    with both(source, target) as (source_fd, target_fd):
        identity = identity_of(source_fd, name)
        assert identity
        found = Spot(source_fd, name, spot.identity if spot else identity)
        return move(found, Target(target_fd, lambda: candidates(name), target, NORTH))


def test_a_file_arrives_with_its_bytes_and_its_time(places: tuple[Path, Path]) -> None:
    source, target = places
    (source / "a.dcm").write_bytes(b"image" * 1_000_000)
    os.utime(source / "a.dcm", ns=(1, 1_600_000_000_123_456_789))
    assert moved(places) == "a.dcm"
    arrived = target / NORTH / "day" / "a.dcm"
    assert arrived.read_bytes() == b"image" * 1_000_000
    assert arrived.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert list(source.iterdir()) == []
    assert not list((target / NORTH).glob(f"{SCRATCH}/*"))


def test_nothing_is_ever_overwritten(places: tuple[Path, Path]) -> None:
    source, target = places
    names = []
    for number in range(3):
        (source / "a.dcm").write_bytes(str(number).encode())
        names.append(moved(places))
    assert names == ["a.dcm", "a (2).dcm", "a (3).dcm"]
    day = target / NORTH / "day"
    assert [(day / name).read_bytes() for name in names] == [b"0", b"1", b"2"]


def test_a_stranger_stays_where_it_is(places: tuple[Path, Path]) -> None:
    source, target = places
    (source / "a.dcm").write_bytes(b"read")
    with both(source, target) as (source_fd, _):
        read = identity_of(source_fd, "a.dcm")
    assert read
    (source / "b").write_bytes(b"other")
    (source / "b").rename(source / "a.dcm")
    with pytest.raises(StrangerError):
        moved(places, spot=Spot(0, "", read))
    assert (source / "a.dcm").read_bytes() == b"other"
    assert not list(target.rglob("*.dcm"))


@pytest.mark.parametrize("step", ["rename", "link", "copy"])
def test_a_stranger_that_slips_in_at_the_last_moment_is_in_the_inbox_afterwards(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer replaces the file right before the step that takes its name away."""
    source, target = tmp_path / "inbox", tmp_path / "processed"
    source.mkdir()
    (source / "a.dcm").write_bytes(b"read")

    def replace() -> None:
        (source / "new").write_bytes(b"the new one")
        (source / "new").rename(source / "a.dcm")

    with both(source, target) as (source_fd, target_fd):
        identity = identity_of(source_fd, "a.dcm")
        assert identity
        if step == "rename":
            original = tree.rename_noreplace

            def renamed(*arguments: object) -> None:
                if arguments[0] == source_fd:
                    replace()
                original(*arguments)

            monkeypatch.setattr(moving, "rename_noreplace", renamed)
        else:
            monkeypatch.setattr(tree, "_RENAMEAT2", None)
            if step == "copy":
                monkeypatch.setattr(moving.os, "link", _refuse_link)
            leave = tree.remove_exactly

            def leaving(*arguments: object) -> bool:
                replace()
                return leave(*arguments)

            monkeypatch.setattr(moving, "remove_exactly", leaving)
        spot = Spot(source_fd, "a.dcm", identity)
        try:
            move(spot, Target(target_fd, lambda: candidates("a.dcm"), target, NORTH))
        except StrangerError:
            assert step == "rename"
    assert [path.read_bytes() for path in source.iterdir()] == [b"the new one"]
    arrived = [path.read_bytes() for path in target.rglob("*.dcm")]
    assert arrived == ([] if step == "rename" else [b"read"])


def test_a_file_that_is_gone_is_gone(places: tuple[Path, Path]) -> None:
    source, target = places
    (source / "a.dcm").write_bytes(b"x")
    with both(source, target) as (source_fd, target_fd):
        identity = identity_of(source_fd, "a.dcm")
        assert identity
        (source / "a.dcm").unlink()
        with pytest.raises(GoneError):
            move(
                Spot(source_fd, "a.dcm", identity),
                Target(target_fd, lambda: candidates("a.dcm"), target, NORTH),
            )


def test_what_a_failed_copy_left_is_removed_and_the_source_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "inbox", tmp_path / "processed"
    source.mkdir()
    (source / "a.dcm").write_bytes(b"x" * 100)
    monkeypatch.setattr(tree, "_RENAMEAT2", None)
    monkeypatch.setattr(moving.os, "link", _refuse_link)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(moving.os, "fsync", full)
        (target / NORTH / "day").mkdir(parents=True)
        (target / NORTH / SCRATCH).mkdir()
        with pytest.raises(OSError, match="space"):
            moved((source, target))
    assert (source / "a.dcm").exists()
    assert not [path for path in target.rglob("*") if path.is_file()]
    assert moved((source, target)) == "a.dcm"


def test_a_folder_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"x")
    (tmp_path / "inbox" / NORTH).mkdir(parents=True)
    (tmp_path / "inbox" / NORTH / "study").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"."), folder(tmp_path / "inbox", (NORTH, "study")):
        pytest.fail("it followed the link")
    with pytest.raises(OSError, match=r"."), make_folder(tmp_path / "inbox", (NORTH, "study", "new")):
        pytest.fail("it followed the link")
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]


@pytest.mark.parametrize("path", ["../x", "a/../b", "/etc/passwd", "a//b", ".", "", "a/./b", "a\0b"])
def test_a_path_leads_only_down(path: str) -> None:
    with pytest.raises(NotAPlainPathError):
        tree.split(path)


def test_only_regular_files_are_opened_and_a_pipe_does_not_hang_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    with folder(tmp_path, ()) as descriptor:
        for name in ("pipe", "link", "folder"):
            with pytest.raises(NotARegularFileError):
                tree.open_file(descriptor, name)


def test_leftovers_of_a_process_that_died_go_and_those_of_one_that_lives_stay(tmp_path: Path) -> None:
    with temporary_file(tmp_path, NORTH) as (_file, _folder, living):
        place = tmp_path / NORTH / SCRATCH
        dead, a_clinics = "0" * 32 + ".partial", "IM1.dcm"
        for name in (dead, a_clinics):
            (place / name).write_bytes(b"")
        os.utime(place / living, (0, 0))
        sweep_scratch(tmp_path, NORTH, time.time())
        assert {path.name for path in place.iterdir()} == {living, a_clinics}
    assert {path.name for path in place.iterdir()} == {a_clinics}


def test_where_there_are_no_locks_leftovers_go_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    place = tmp_path / NORTH / SCRATCH
    place.mkdir(parents=True)
    old, new = "0" * 32 + ".partial", "1" * 32 + ".partial"
    for name in (old, new):
        (place / name).write_bytes(b"")
    os.utime(place / old, (0, 0))
    sweep_scratch(tmp_path, NORTH, time.time())
    assert {path.name for path in place.iterdir()} == {new}


@pytest.mark.parametrize(
    ("name", "first_three"),
    [
        ("a.dcm", ["a.dcm", "a (2).dcm", "a (3).dcm"]),
        ("IM0001", ["IM0001", "IM0001 (2)", "IM0001 (3)"]),
        ("1.2.840.1", ["1.2.840.1", "1.2.840 (2).1", "1.2.840 (3).1"]),
        (".x", [".x", ".x (2)", ".x (3)"]),
        ("a\nb'\".dcm", ["a\nb'\".dcm", "a\nb'\" (2).dcm", "a\nb'\" (3).dcm"]),
        (
            os.fsdecode(b"\xff\xfe.d"),
            [os.fsdecode(each) for each in (b"\xff\xfe.d", b"\xff\xfe (2).d", b"\xff\xfe (3).d")],
        ),
    ],
)
def test_names_where_one_is_taken(name: str, first_three: list[str]) -> None:
    assert list(islice(candidates(name), 3)) == first_three


@pytest.mark.parametrize("name", ["x" * 255, "ж" * 127, "x" * 250 + ".dcm", "x." + "y" * 253])
def test_long_names_fit_with_whatever_is_added(name: str) -> None:
    for candidate in islice(candidates(name), 12):
        assert len(os.fsencode(candidate)) <= 255
        candidate.encode()
    for candidate in islice(failed_candidates(name), 12):
        assert len(os.fsencode(candidate + ERROR_JSON)) <= 255
    assert len(set(islice(candidates(name), 12))) == 12


def test_a_failed_file_is_never_mistaken_for_a_report() -> None:
    assert next(failed_candidates("a.dcm.error.json")) == "a.dcm.error (2).json"


def test_names_that_are_left_alone_and_names_that_are_litter() -> None:
    for name in (".hidden", "a.part", "a.PARTIAL", "a.tmp", "a.filepart", "a.crdownload", "~a"):
        assert is_under_way(name)
        assert not is_litter(name)
    for name in ("Thumbs.db", ".DS_Store", "._IM001", "desktop.ini", "AUTORUN.INF"):
        assert is_litter(name)
    for name in ("IM001", "a.dcm", "DICOMDIR", "part", "tmp", "a~", LEAVING + "abc"):
        assert not is_under_way(name)
        assert not is_litter(name)
    assert in_inbox(LEAVING + "abc") == "abc"


def test_a_file_keeps_who_may_read_it(places: tuple[Path, Path]) -> None:
    (places[0] / "a.dcm").write_bytes(b"image")
    (places[0] / "a.dcm").chmod(0o600)
    moved(places)
    assert (places[1] / NORTH / "day" / "a.dcm").stat().st_mode & 0o777 == 0o600
