"""Folders that stay open for a batch: nothing is lost by what others do to them meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from importer.files.moving import GoneError
from importer.files.tree import Identity
from importer.work import Place, Settlement, WaitingFile
from support.importing import NORTH

if TYPE_CHECKING:
    from importer.files.filing import Filer
    from support.importing import World

STORED = Settlement("stored")


def waiting(world: World, *paths: str) -> list[WaitingFile]:
    """Files in the inbox as the scanner hands them out."""
    files = []
    for path in paths:
        world.drop(path, seed=path)
        identity = Identity.of((world.inbox / NORTH / path).stat())
        files.append(WaitingFile(NORTH, path, identity, Place(0.0, 0), 0.0))
    return files


def file_all(filer: Filer, files: list[WaitingFile]) -> None:
    with filer.keeping_folders():
        for file in files:
            filer.file(file, STORED)


def descriptors(world: World) -> list[str]:
    """What is open of the world's trees; connections of tests before this one may close at any time."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            place = str(descriptor.readlink())
            if place.startswith((str(world.inbox), str(world.processed), str(world.failed))):
                found.append(place)
    return sorted(found)


def test_files_of_several_folders_go_where_they_belong(world: World) -> None:
    files = waiting(world, "a/1.dcm", "b/1.dcm", "a/2.dcm", "a/deep/3.dcm", "4.dcm")
    file_all(world.filer(), files)
    assert sorted(world.done()) == ["4.dcm", "a/1.dcm", "a/2.dcm", "a/deep/3.dcm", "b/1.dcm"]
    assert not world.waiting()


def test_no_descriptor_is_left_open(world: World) -> None:
    filer = world.filer()
    files = waiting(world, "a/1.dcm", "b/2.dcm", "a/3.dcm")
    before = descriptors(world)
    with filer.keeping_folders():
        for file in files:
            os.close(filer.open(file))
    file_all(filer, files)
    assert descriptors(world) == before


def test_a_file_stays_in_the_inbox_when_the_folder_for_it_is_removed_meanwhile(world: World) -> None:
    first, second = waiting(world, "a/1.dcm", "a/2.dcm")
    filer = world.filer()
    with filer.keeping_folders():
        filer.file(first, STORED)
        shutil.rmtree(world.processed)
        with pytest.raises(GoneError):
            filer.file(second, STORED)
    assert sorted(world.waiting()) == ["a/2.dcm"]
    file_all(filer, [second])
    assert sorted(world.done()) == ["a/2.dcm"]


def test_another_file_in_a_folder_of_the_same_name_is_not_taken_along(world: World) -> None:
    first, second = waiting(world, "a/1.dcm", "a/2.dcm")
    filer = world.filer()
    with filer.keeping_folders():
        filer.file(first, STORED)
        (world.inbox / NORTH / "a").rename(world.inbox / NORTH / "renamed")
        world.drop("a/2.dcm", b"another file")
        filer.file(second, STORED)
    assert world.waiting() == {"a/2.dcm": b"another file"}
    assert sorted(world.done()) == ["a/1.dcm", "a/2.dcm"]


def test_a_folder_that_a_thread_keeps_is_its_own(world: World) -> None:
    filer = world.filer()
    batches = [waiting(world, *(f"{folder}/{number}.dcm" for number in range(20))) for folder in "abcd"]
    threads = [threading.Thread(target=file_all, args=(filer, batch)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.done()) == 80
    assert not world.waiting()
