"""Writers that pause for longer than the cooldown, versions that come meanwhile, folders that keep files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest

from support.corpus import instance_bytes, sample_uid
from support.importer_process import Process
from support.importing import NORTH, metric, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.importing import World

PIXEL_DATA = b"\xe0\x7f\x10\x00"
# As its container runs: without the capability that F_SETLEASE wants for files of others.
WITHOUT_LEASES = ("setpriv", "--bounding-set=-lease", "--inh-caps=-lease")
HOST_USER = 4711


def stored(world: World, seed: str) -> pydicom.Dataset:
    """What the archive has of an image."""
    return pydicom.dcmread(BytesIO(world.server.stored[sample_uid(seed, "instance", 1)].content))


@pytest.mark.long
def test_a_writer_of_whom_the_kernel_does_not_tell_is_noticed_when_it_goes_on(world: World) -> None:
    content = instance_bytes(seed="slow", sop_instance_uid=sample_uid("slow", "instance", 1))
    cut = content.index(PIXEL_DATA)
    with (world.inbox / NORTH / "slow.dcm").open("wb") as writer:
        os.chown(writer.fileno(), HOST_USER, -1)
        os.fchmod(writer.fileno(), 0o644)
        writer.write(content[:cut])
        writer.flush()
        process = Process.start(world, through=WITHOUT_LEASES)
        try:
            wait_until(lambda: world.done() == {"slow.dcm": content[:cut]})
            writer.write(content[cut:])
            writer.close()
            wait_until(
                lambda: world.done() == {"slow.dcm": content} and "PixelData" in stored(world, "slow"), 40
            )
        finally:
            process.kill()
    assert world.waiting() == {}
    assert "returns to the inbox" in process.output


@pytest.mark.long
def test_a_stored_file_of_which_a_newer_version_is_stored_does_not_return(world: World) -> None:
    uid = sample_uid("one", "instance", 1)
    old, other = instance_bytes(seed="one", sop_instance_uid=uid), instance_bytes(seed="other")
    halves = {"old.dcm": old[: old.index(PIXEL_DATA)], "other.dcm": other[: other.index(PIXEL_DATA)]}
    for name, half in halves.items():
        world.drop(name, half)
    with world.running_fast():
        wait_until(lambda: world.done() == halves)
        newer = world.drop("new.dcm", seed="one", sop_instance_uid=uid, description="corrected")
        wait_until(lambda: world.done() == {**halves, "new.dcm": newer})
        for name, content in (("old.dcm", old), ("other.dcm", other)):
            (place,) = world.processed.rglob(name)
            with place.open("ab") as writer:
                writer.write(content[len(halves[name]) :])
        # Both are looked at together, so that the one that returns tells of the one that does not.
        wait_until(lambda: "other.dcm" not in world.done())
        wait_until(lambda: world.done() == {"old.dcm": old, "new.dcm": newer, "other.dcm": other})
    assert world.server.times_stored[uid] == 2
    assert stored(world, "one").StudyDescription == "corrected"


def test_a_stored_file_that_was_changed_stays_for_verify_to_find(world: World) -> None:
    uid = sample_uid("a", "instance", 1)
    content = world.drop("a.dcm", seed="a", sop_instance_uid=uid)
    half = instance_bytes(seed="b")
    cut = half.index(PIXEL_DATA)
    world.drop("b.dcm", half[:cut])
    with world.running_fast():
        wait_until(lambda: len(world.done()) == 2)
        (place,) = world.processed.rglob("a.dcm")
        place.write_bytes(content[:-1] + b"x")
        (grows,) = world.processed.rglob("b.dcm")
        with grows.open("ab") as writer:
            writer.write(half[cut:])
        wait_until(lambda: world.done().get("b.dcm") == half and len(world.server.requests) > 1)
        wait_until(lambda: not world.waiting())
    assert world.done()["a.dcm"] == content[:-1] + b"x"
    assert world.server.times_stored[uid] == 1


def test_a_version_that_is_still_open_is_not_stored_over_a_newer_one(world: World) -> None:
    uid = sample_uid("open", "instance", 1)
    first = instance_bytes(seed="open", sop_instance_uid=uid, description="first")
    with (world.inbox / NORTH / "a.dcm").open("wb") as writer, world.running_fast() as importer:
        writer.write(first)
        writer.flush()
        labels = {"clinic": NORTH, "reason": "being-written"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        newer = world.drop("b.dcm", seed="open", sop_instance_uid=uid, description="corrected")
        wait_until(lambda: world.done() == {"a.dcm": first, "b.dcm": newer})
    assert stored(world, "open").StudyDescription == "corrected"


@pytest.mark.parametrize("look_first", [True, False])
def test_a_file_whose_folder_was_renamed_is_not_stored_over_what_came_later(
    world: World, *, look_first: bool
) -> None:
    uid = sample_uid("renamed", "instance", 1)
    world.server.stop()
    with world.running_fast() as importer:
        first = world.drop("z/a.dcm", seed="renamed", sop_instance_uid=uid, description="first")
        wait_until(lambda: importer.in_hand == 1)
        newer = world.drop("b/a.dcm", seed="renamed", sop_instance_uid=uid, description="corrected")
        wait_until(lambda: importer.in_hand == 2)
        (world.inbox / NORTH / "z").rename(world.inbox / NORTH / "z-done")
        # Whether it is found under its new name before it is missed under the old one, or after.
        if look_first:
            looks = importer.full_looks
            wait_until(lambda: importer.full_looks >= looks + 6 and importer._news.empty())
        world.server.start()
        wait_until(lambda: not world.waiting())
    filed = world.files(world.failed) | world.done()
    assert (filed["z-done/a.dcm"], filed["b/a.dcm"]) == (first, newer)
    assert world.reasons() in ({}, {"z-done/a.dcm": "superseded"})
    assert stored(world, "renamed").StudyDescription == "corrected"


def test_two_studies_with_one_instance_uid_never_share_a_request(world: World) -> None:
    uid = sample_uid("twice", "instance", 1)
    one = world.drop("one.dcm", seed="one", sop_instance_uid=uid)
    two = world.drop("two.dcm", seed="two", sop_instance_uid=uid)
    world.drop("three.dcm", seed="three")
    with world.running_fast():
        wait_until(lambda: len(world.done()) == 3)
    assert world.done()["one.dcm"] == one
    assert world.done()["two.dcm"] == two
    assert max(sent.uids.count(uid) for sent in world.server.requests) == 1
    assert world.server.times_stored[uid] == 2


@pytest.fixture
def apart(world: World) -> Iterator[World]:
    """A world whose inbox is on another file system than its processed and failed files."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == world.data.stat().st_dev:
        pytest.skip("there is no second file system here")
    other = Path(tempfile.mkdtemp(dir="/dev/shm"))
    world.options |= {"processed_path": other / "processed", "failed_path": other / "failed"}
    yield world
    shutil.rmtree(other)


def test_half_a_file_is_given_time_where_failing_it_would_leave_its_writer_behind(apart: World) -> None:
    """A copy takes along what there is, and what is written later goes into a file without a name."""
    content = instance_bytes(seed="slow")
    path = apart.inbox / NORTH / "slow.dcm"
    path.write_bytes(content[:-20])
    with apart.running_fast() as importer:
        labels = {"clinic": NORTH, "reason": "incomplete"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        with path.open("ab") as writer:
            writer.write(content[-20:])
        wait_until(lambda: apart.done() == {"slow.dcm": content})
    assert apart.failures() == {}


def test_what_cannot_be_taken_from_its_folder_is_not_copied_again_and_again(apart: World) -> None:
    study = apart.inbox / NORTH / "study"
    good = apart.drop("study/good.dcm", seed="good")
    bad = apart.drop("study/bad.dcm", b"no image")
    if subprocess.run(["chattr", "+a", study], check=False, capture_output=True).returncode:
        pytest.skip("folders cannot be made append-only here")
    try:
        with apart.running_fast() as importer:
            labels = {"clinic": NORTH, "reason": "not-movable"}
            wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 2)
            wait_until(lambda: apart.done() == {} and apart.files(apart.failed) == {})
            subprocess.run(["chattr", "-a", study], check=True)
            wait_until(lambda: apart.done() == {"study/good.dcm": good})
            wait_until(apart.failures)
    finally:
        # The importer may have removed it by now, because it is empty.
        subprocess.run(["chattr", "-a", study], check=False, capture_output=True)
    assert apart.files(apart.failed)["study/bad.dcm"] == bad


def test_a_file_that_returns_takes_nothing_along(world: World) -> None:
    """In failed its report has this name; in processed it is a clinic's image."""
    half = instance_bytes(seed="grows")
    cut = half.index(PIXEL_DATA)
    world.drop("a.dcm", half[:cut])
    beside = world.drop("a.dcm.error.json", seed="beside")
    with world.running_fast():
        wait_until(lambda: len(world.done()) == 2)
        (grows,) = world.processed.rglob("a.dcm")
        with grows.open("ab") as writer:
            writer.write(half[cut:])
        wait_until(lambda: world.done() == {"a.dcm": half, "a.dcm.error.json": beside})
