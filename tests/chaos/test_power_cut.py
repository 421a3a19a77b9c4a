"""R1: the power is cut at random moments: what was not synced is gone, and no file with it.

A real ext4 is shut down under the importer, journal and all, so that it has what it would have after a power
cut. What clinics handed over is synced first: what their own programs never synced nobody can keep.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from support.chaos import (
    Handed,
    Supervisor,
    assert_all_arrived,
    chance,
    counts,
    found,
    is_listed,
    scaled,
    waiting,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from support.chaos_disks import Disk
    from support.importing import World

FILES_A_LIFE = 60
SETTINGS = {"COOLDOWN_SECONDS": "0.1", "RESCAN_SECONDS": "0.2", "UPLOAD_WORKERS": "1"}


def cut(world: World, disks: list[Disk], supervisor: Supervisor, moments: random.Random) -> bool:
    """One life until the power is cut; whether it was cut in the midst of work."""
    for disk in disks:
        disk.sync()
    process = supervisor.start()
    try:
        process.wait_started()
        time.sleep(moments.uniform(0, 0.6))
        moments.shuffle(disks)
        busy = bool(waiting(world))
        for disk in disks:
            disk.cut_power()
    finally:
        process.kill()
    world.catalog.close()
    for disk in disks:
        disk.unmount()
        disk.mount()
    return busy


def lives(world: World, disks: list[Disk], handed: Handed, name: str) -> None:
    moments, cuts, busy = chance(name), scaled(60, 4), 0
    supervisor = Supervisor(world, SETTINGS)
    began = time.monotonic()
    # One batch after the other, slowly, so that each cut meets some work.
    world.server.rule = lambda _sent: time.sleep(0.1)
    for life in range(cuts):
        for number in range(life * FILES_A_LIFE, (life + 1) * FILES_A_LIFE):
            handed.drop(world, number % 10, number)
        busy += cut(world, list(disks), supervisor, moments)
    world.server.rule = lambda _sent: None
    supervisor.last_life(handed, 300)
    assert busy
    counts.append(
        f"power cuts, {name}: {cuts}, {busy} of them with files in the inbox; "
        f"{cuts * FILES_A_LIFE} files; {time.monotonic() - began:.0f} s"
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("commit", [1, 300], ids=["commits-often", "commits-nothing-unasked"])
def test_power_cuts_lose_and_halve_no_file(
    make_world: Callable[..., World], new_ext4: Callable[..., Disk], tmp_path: Path, commit: int
) -> None:
    """Folders and catalog on one disk."""
    disk = new_ext4(tmp_path / "disk", options=f"commit={commit}")
    world, handed = make_world(disk.place), Handed()
    lives(world, [disk], handed, f"one disk, commit={commit}")
    assert_all_arrived(world, handed)
    assert set(world.server.stored) == {uid for uids in handed.instances.values() for uid in uids}


@pytest.mark.timeout(1800)
def test_power_cuts_lose_no_file_on_its_way_to_another_disk(
    make_world: Callable[..., World], new_ext4: Callable[..., Disk], tmp_path: Path
) -> None:
    """It may be filed twice then, each time whole."""
    disks = [new_ext4(tmp_path / name, options="commit=300") for name in ("in", "out")]
    world = make_world(
        disks[0].place,
        processed_path=disks[1].place / "processed",
        failed_path=disks[1].place / "failed",
    )
    handed = Handed()
    lives(world, disks, handed, "two disks")
    assert not found(world, world.inbox)
    assert set(found(world, world.processed).values()) == set(handed.good.values())
    assert set(found(world, world.failed).values()) == set(handed.bad.values())
    assert set(world.server.stored) == {uid for uids in handed.instances.values() for uid in uids}
    assert is_listed(world, handed)
