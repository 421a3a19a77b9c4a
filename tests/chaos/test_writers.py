"""R5: however a file comes into being, what is stored as final is never half of it.

Writers here are those that the kernel cannot tell about: they open, write and close for every piece, as a
network share does. (Of one that keeps the file open on a local disk, `test_flow` tells.)
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from support.chaos import counts, scaled
from support.corpus import instance_bytes, make_instance
from support.damaged import behind_the_history, header_of
from support.importer_process import Process
from support.importing import NORTH, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from importer.dicom.part10 import InstanceHeader
    from support.stow_server import Sent

COOLDOWN = 0.4


@pytest.fixture
def process(world: World) -> Iterator[Process]:
    started = Process.start(world, COOLDOWN_SECONDS=str(COOLDOWN))
    started.wait_started()
    yield started
    started.kill()


def uid_of(seed: str) -> str:
    return str(make_instance(seed=seed).SOPInstanceUID)


def append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)


def assert_stored_once_and_whole(world: World, name: str, content: bytes, uid: str) -> None:
    """All that the archive was ever given under this UID is this content."""
    assert world.done()[name] == content
    assert world.server.times_stored[uid] == 1
    stored = world.server.stored[uid].content
    assert behind_the_history(stored, header(stored)) == behind_the_history(content, header(content))


def header(content: bytes) -> InstanceHeader:
    found = header_of(content)
    assert not isinstance(found, str), found
    return found


@pytest.mark.timeout(180)
def test_a_writer_of_a_byte_every_half_cooldown_is_waited_for(world: World, process: Process) -> None:
    """Twenty at once, each at another place of the same file: none of them looks finished."""
    writers = scaled(20, 4)
    contents = {f"{number}.dcm": instance_bytes(seed=f"slow {number}", size=8) for number in range(writers)}
    pieces = 25
    for step in range(pieces):
        for number, (name, content) in enumerate(contents.items()):
            first = len(content) * number // writers
            until = first + step if step < pieces - 1 else len(content)
            if step == 0:
                append(world.inbox / NORTH / name, content[:first])
            append(world.inbox / NORTH / name, content[first + step - 1 if step else first : until])
        time.sleep(COOLDOWN / 2)
        if step < pieces - 1:
            assert world.server.requests == []
            assert not world.failures()
    wait_until(lambda: len(world.done()) == writers)
    assert world.done() == contents
    assert set(world.server.times_stored.values()) == {1}
    counts.append(f"R5 slow writers: {writers} in {pieces} pieces")


# Where a writer may pause: everything up to there reads like this.
PAUSES: dict[str, tuple[Callable[[bytes], int], str]] = {
    "in the preamble": (lambda _: 100, "truncated"),
    "in the file meta information": (lambda _: 200, "truncated"),
    "before the identifiers": (lambda content: content.index(b"\x08\0\x18\0", 300), "no-sop-instance-uid"),
    "before the pixel data": (lambda content: content.rindex(b"\xe0\x7f\x10\0"), ""),
    "in the pixel data": (lambda content: len(content) - 50, "truncated"),
    "a byte before the end": (lambda content: len(content) - 1, "truncated"),
}


@pytest.mark.timeout(120)
def test_a_writer_that_pauses_for_longer_than_the_cooldown_and_goes_on_is_stored_whole(
    world: World, process: Process
) -> None:
    """Half of it is in failed meanwhile, with its reason; its writer, who has it open, goes on there.

    A header without the image that it describes stays in the inbox for as long as somebody writes to it.
    """
    files = {}
    for number, (name, (place, _)) in enumerate(PAUSES.items()):
        content = instance_bytes(seed=name, instance_number=number, size=16)
        cut = place(content)
        file = (world.inbox / NORTH / f"{name}.dcm").open("wb", buffering=0)
        file.write(content[:cut])
        files[name] = file, content, cut
    expected = {f"{name}.dcm": reason for name, (_, reason) in PAUSES.items() if reason}
    wait_until(lambda: world.reasons() == expected, 60, str(expected))
    assert world.server.requests == []
    for file, content, cut in files.values():
        file.write(content[cut:])
        file.close()
    wait_until(lambda: len(world.done()) == len(files))
    assert world.done() == {f"{name}.dcm": content for name, (_, content, _) in files.items()}
    assert world.failures() == {}
    assert set(world.server.times_stored.values()) == {1}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_no_beginning_of_a_compressed_file_is_taken_for_the_whole(world: World, syntax: str) -> None:
    """Every length that a copy can break off at, from where it says that it has pixel data."""
    # Without the NUL that makes its length even, it is whole.
    content = instance_bytes("CT", transfer_syntax=syntax, seed="cut", size=32).rstrip(b"\0")
    first = 0 if syntax == DeflatedExplicitVRLittleEndian else content.index(b"\x28\0\0\x01US") + 1
    step = max(1, (len(content) - first) // scaled(500, 50))
    lengths = {*range(first, len(content), step), *range(len(content) - 20, len(content))}
    for length in lengths:
        world.drop(f"{length}.dcm", content[:length])
    process = Process.start(world)
    try:
        wait_until(lambda: len(world.reasons()) == len(lengths), 90)
    finally:
        process.kill()
    assert world.server.requests == []
    assert world.done() == {}
    counts.append(f"R5 beginnings: {len(lengths)} of {syntax}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "how", ["rename", "in place", "in place with its time set back", "truncated and anew"]
)
def test_a_file_that_is_replaced_while_it_waits_is_stored_as_the_last_one(
    world: World, process: Process, how: str
) -> None:
    """Again and again, each before the cooldown is over."""
    place = world.inbox / NORTH / "a.dcm"
    uid = uid_of("replaced")
    versions = [
        instance_bytes(seed="replaced", size=16, description=f"Version {number}") for number in range(8)
    ]
    assert len({len(each) for each in versions}) == 1
    place.write_bytes(versions[0])
    for content in versions[1:]:
        time.sleep(COOLDOWN / 2)
        _replace(place, content, how)
        assert world.server.requests == []
    wait_until(world.done)
    assert_stored_once_and_whole(world, "a.dcm", versions[-1], uid)
    assert b"Version 7" in world.server.stored[uid].content


def _replace(place: Path, content: bytes, how: str) -> None:
    if how == "rename":
        other = place.with_name(".a.dcm.new")
        other.write_bytes(content)
        other.rename(place)
    elif how == "truncated and anew":
        place.write_bytes(content)
    else:
        before = place.stat()
        with place.open("r+b") as file:
            file.write(content)
        if how.endswith("back"):
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["rename", "in place", "in place with its time set back"])
def test_a_file_that_is_replaced_while_a_slow_archive_takes_it_ends_as_the_last_one(
    world: World, process: Process, how: str
) -> None:
    held, go_on = threading.Event(), threading.Event()

    def slow(sent: Sent) -> None:
        if sent.number == 0:
            held.set()
            go_on.wait(30)

    world.server.rule = slow
    before, after = (
        instance_bytes(seed="replaced", size=300, description=each) for each in ("Before", "After ")
    )
    place = world.inbox / NORTH / "a.dcm"
    place.write_bytes(before)
    wait_until(held.is_set)
    _replace(place, after, how)
    go_on.set()
    wait_until(lambda: world.done().get("a.dcm") == after, 30)
    uid = uid_of("replaced")
    assert b"After " in world.server.stored[uid].content
    assert world.server.times_stored[uid] == 2
    assert world.failures() == {}


@pytest.mark.timeout(120)
def test_any_time_of_modification_is_as_good_as_another(world: World, process: Process) -> None:
    """1970, 2100, years ago, before the epoch; and `cp -p`, which sets it when it is done."""
    times = {"1970": 0, "2100": 4102444800, "2009": 1234567890, "1901": -2147483648, "2200": 7258118400}
    contents = {name: world_content(name) for name in (*times, "copied")}
    halves = {}
    for name, seconds in times.items():
        place = world.inbox / NORTH / f"{name}.dcm"
        place.write_bytes(contents[name][:800])
        os.utime(place, (seconds, seconds))
        halves[name] = place
    for _ in range(5):
        time.sleep(COOLDOWN / 2)
        for name, place in halves.items():
            size = place.stat().st_size
            append(place, contents[name][size : size + 100])
            os.utime(place, (times[name], times[name]))
        assert world.server.requests == []
        assert not world.failures()
    for name, place in halves.items():
        append(place, contents[name][place.stat().st_size :])
        os.utime(place, (times[name], times[name]))
    source = world.data / "copied.dcm"
    source.write_bytes(contents["copied"])
    os.utime(source, (1, 1))
    subprocess.run(["cp", "-p", source, world.inbox / NORTH / "copied.dcm"], check=True)
    wait_until(lambda: len(world.done()) == len(contents))
    assert world.done() == {f"{name}.dcm": content for name, content in contents.items()}
    assert world.failures() == {}


def world_content(seed: str) -> bytes:
    return instance_bytes(seed=seed, size=16)


@pytest.mark.timeout(120)
def test_a_file_that_is_as_long_as_it_will_be_from_the_start(world: World, process: Process) -> None:
    """Preallocated, as some servers do: while it is written its time moves on.

    Where the writer stops for longer than the cooldown, zeros in native pixel data look like any others.
    """
    content = instance_bytes(seed="preallocated", size=64)
    place = world.inbox / NORTH / "a.dcm"
    with place.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, len(content))
    piece = len(content) // 12
    for start in range(0, len(content), piece):
        with place.open("r+b") as file:
            file.seek(start)
            file.write(content[start : start + piece])
        time.sleep(COOLDOWN / 2)
        assert start + piece >= len(content) or world.server.requests == []
    wait_until(world.done)
    assert_stored_once_and_whole(world, "a.dcm", content, uid_of("preallocated"))
    assert world.failures() == {}
