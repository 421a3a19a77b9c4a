"""R1: nothing is taken away or sent before what it rests on is on the disk, by the trace of the process."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import missing

from support.chaos import Handed, Supervisor, scaled, waiting
from support.chaos_trace import Call, Disk, calls, command
from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.importing import World

FILES = scaled(400, 120)


def traced(world: World, trace: Path) -> list[Call]:
    """What the importer does to file good and bad files of ten studies."""
    if shutil.which("strace") is None:
        missing("strace")
    handed = Handed()
    for number in range(FILES):
        handed.drop(world, number % 10, number)
    settings = {"COOLDOWN_SECONDS": "0.1", "RESCAN_SECONDS": "0.5"}
    process = Supervisor(world, settings, through=command(trace)).start()
    try:
        wait_until(lambda: process.popen.poll() is not None or not waiting(world), 90)
        assert process.terminate() == 0, process.output
    finally:
        process.kill()
    assert handed.bad
    return list(calls(trace))


@pytest.fixture
def second_disk(tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        missing("a second file system")
    made = Path(tempfile.mkdtemp(dir=shared))
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(180)
def test_a_file_leaves_the_inbox_after_its_copy_on_another_disk_is_durable(
    make_world: Callable[..., World], second_disk: Path, tmp_path: Path
) -> None:
    world = make_world(processed_path=second_disk / "processed", failed_path=second_disk / "failed")
    disk, published, left = Disk(), dict[tuple[str, str], str](), 0
    for call in traced(world, tmp_path / "trace"):
        disk.take(call)
        if call.name == "renameat2" and ".partial" in call.paths[0]:
            published[Path(call.paths[1]).name, Path(call.paths[1]).parent.name] = call.paths[1]
        if call.name == "renameat" and ".clinicpacs-leaving" in call.paths[1]:
            place = Path(call.paths[0])
            copy = published[place.name, place.parent.name]
            assert disk.has(copy), f"{place} left before {copy} was durable"
            left += 1
    assert left >= FILES


@pytest.mark.timeout(180)
def test_on_one_disk_a_file_is_moved_by_one_rename_and_its_report_is_durable_before(
    world: World, tmp_path: Path
) -> None:
    """A journal keeps a rename whole; why a file failed is on the disk before it."""
    disk, moved, inbox = Disk(), 0, str(world.inbox)
    for call in traced(world, tmp_path / "trace"):
        if call.name == "renameat2" and call.paths[0].startswith(inbox):
            moved += 1
            target = call.paths[1]
            assert disk.has_name(str(Path(target).parent)), f"{target}: its folder is not durable"
            if target.startswith(str(world.failed)):
                assert disk.has(f"{target}.error.json"), f"{target} failed before its report was durable"
        if call.name.startswith("unlink") and "AT_REMOVEDIR" not in call.text:
            assert not call.paths[0].startswith(f"{inbox}/northside/study"), "a file is never removed"
        disk.take(call)
    assert moved == FILES


@pytest.mark.timeout(180)
def test_studies_are_reserved_on_the_disk_before_the_first_byte_is_sent(world: World, tmp_path: Path) -> None:
    written = synced = -1
    port = f":{world.server.port}]"
    for call in traced(world, tmp_path / "trace"):
        place = call.paths[0] if call.paths else ""
        if place.endswith("catalog.db-wal"):
            if call.name == "pwrite64":
                written = call.ended
            elif 0 <= written < call.began:
                synced = call.began
        elif port in place and '"POST ' in call.text:
            assert synced >= 0, "a request went out before a reservation was synced"
            return
    pytest.fail("no request was seen")
