"""R3: disks full, read-only, forbidden and gone: files wait, it is told, and all goes on alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.chaos_scene import FILES, alert_on, make_trouble
from support.importing import NORTH, SOUTH, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.chaos_disks import Disk
    from support.chaos_scene import Scene
    from support.importing import World


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tree", ["processed", "failed"])
@pytest.mark.parametrize("trouble", ["full", "inodes", "read-only"])
def test_a_target_that_takes_nothing_keeps_files_waiting(
    make_world: Callable[..., World],
    new_tmpfs: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    *,
    tree: str,
    trouble: str,
) -> None:
    disk = new_tmpfs(tmp_path / "disk", "size=64m,nr_inodes=2000")
    scene = begin(make_world(**{f"{tree}_path": disk.place}))
    scene.hand_over("before")
    wait_until(scene.is_filed)
    stored = len(scene.world.server.stored)
    end_trouble = make_trouble(disk, trouble)
    scene.hand_over("during")
    wait_until(lambda: scene.is_blocked("no-space", "target-not-writable"), 60)
    scene.assert_nothing_lost()
    assert len(scene.world.server.stored) == stored, "nothing is sent that could not be filed"
    assert scene.lines("files of a clinic wait") == 1
    assert alert_on("importer_blocked_files") == "BlockedFiles"
    end_trouble()
    scene.assert_recovered()
    assert scene.lines("files of a clinic wait no longer") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tree", ["processed", "failed"])
@pytest.mark.parametrize("folder", ["", NORTH])
def test_a_target_that_is_forbidden_keeps_files_waiting(
    world: World, begin: Callable[..., Scene], tree: str, folder: str
) -> None:
    scene = begin(world)
    scene.hand_over("before")
    wait_until(scene.is_filed)
    stored = len(world.server.stored)
    place = world.data / tree / folder
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0)
    scene.hand_over("during")
    wait_until(lambda: scene.is_blocked("target-not-writable"), 60)
    assert len(world.server.stored) == stored
    assert scene.lines("files of a clinic wait") == 1
    place.chmod(0o755)
    scene.assert_recovered()


@pytest.mark.timeout(180)
def test_a_folder_of_the_day_that_is_forbidden_delays_the_move_alone(
    world: World, begin: Callable[..., Scene]
) -> None:
    """The archive has the files, which are sent once; moving them is what is repeated."""
    scene = begin(world)
    scene.drop("before")
    wait_until(scene.is_filed)
    (day,) = (world.processed / NORTH).glob("2*")
    day.chmod(0o555)
    scene.drop("during")
    wait_until(lambda: scene.is_blocked("not-movable"), 60)
    scene.assert_nothing_lost()
    day.chmod(0o755)
    scene.assert_recovered()
    assert set(world.server.times_stored.values()) == {1}
    assert scene.lines("files of a clinic wait") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("mode", "reason"), [(0o555, "source-not-writable"), (0o000, "")], ids=["read-only", "unreadable"]
)
def test_a_forbidden_folder_in_the_inbox_is_told_and_waits(
    world: World, begin: Callable[..., Scene], mode: int, reason: str
) -> None:
    scene = begin(world)
    (world.inbox / NORTH / "during").mkdir()
    held = world.inbox / NORTH / ".held"
    held.mkdir()
    for number in range(FILES):
        path = f"during/{number}.dcm"
        scene.dropped[path] = world.drop(f".held/{number}.dcm", seed="during", instance_number=number)
    (world.inbox / NORTH / "during").rmdir()
    held.chmod(mode)
    held.rename(world.inbox / NORTH / "during")
    if reason:
        wait_until(lambda: scene.is_blocked(reason), 60)
    else:
        wait_until(lambda: scene.metric('importer_unreadable_folders{clinic="northside"}') == 1, 60)
        assert alert_on("importer_unreadable_folders") == "UnreadableFolders"
    assert not world.server.stored
    scene.assert_process_lives()
    (world.inbox / NORTH / "during").chmod(0o755)
    scene.assert_recovered()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("folder", ["", NORTH], ids=["inbox", "clinic"])
def test_an_inbox_that_is_forbidden_is_told_and_waits(
    world: World, begin: Callable[..., Scene], folder: str
) -> None:
    """All of it, or one clinic's: then the other clinics' files are imported as ever."""
    world.server.stop()
    scene = begin(world)
    scene.hand_over("before")
    wait_until(lambda: scene.metric('importer_waiting_files{clinic="northside"}') == FILES, 60)
    place = world.inbox / folder
    mode = place.stat().st_mode
    place.chmod(0)
    wait_until(lambda: scene.metric("importer_inbox_up") == 0, 60)
    assert alert_on("importer_inbox_up") == "InboxGone"
    world.server.start()
    theirs = {"theirs.dcm": world.drop("theirs.dcm", clinic=SOUTH)}
    if folder:
        wait_until(lambda: world.done(SOUTH) == theirs, 60)
    scene.hand_over("during")
    assert scene.metric('importer_waiting_files{clinic="northside"}') == FILES
    assert not world.done()
    scene.assert_nothing_lost()
    place.chmod(mode)
    scene.assert_recovered()
    assert world.done(SOUTH) == theirs
    assert scene.lines("is gone: files wait until it is back") == 1
    assert scene.lines("the inbox is back") == 1


@pytest.mark.timeout(180)
def test_files_that_may_not_be_read_wait_and_are_told_once(world: World, begin: Callable[..., Scene]) -> None:
    scene = begin(world)
    held = world.inbox / NORTH / ".held"
    for number in range(FILES):
        path = f"during/{number}.dcm"
        scene.dropped[path] = world.drop(f".held/{number}.dcm", seed="during", instance_number=number)
        (held / f"{number}.dcm").chmod(0)
    held.rename(world.inbox / NORTH / "during")
    wait_until(lambda: scene.is_blocked("unreadable"), 60)
    for number in range(FILES):
        (world.inbox / NORTH / "during" / f"{number}.dcm").chmod(0o644)
    scene.assert_recovered()
    assert scene.lines("files of a clinic wait") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("level", "trouble"),
    [
        # Of a whole inbox the importer keeps a file open, so that it is not remounted read-only.
        ("inbox", "full"),
        ("inbox", "inodes"),
        ("inbox/northside", "full"),
        ("inbox/northside", "inodes"),
        ("inbox/northside", "read-only"),
    ],
)
def test_an_inbox_on_a_disk_in_trouble(
    make_world: Callable[..., World],
    new_tmpfs: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    *,
    level: str,
    trouble: str,
) -> None:
    """A full one is emptied all the same; from a read-only one nothing is taken that could not be moved."""
    disk = new_tmpfs(tmp_path / "data" / level, "size=64m,nr_inodes=2000")
    world = make_world()
    world.server.stop()
    scene = begin(world)
    scene.hand_over("before")
    end_trouble = make_trouble(disk, trouble)
    world.server.start()
    if trouble == "read-only":
        wait_until(lambda: scene.is_blocked("source-not-writable"), 60)
        assert not world.server.stored
        scene.assert_nothing_lost()
    else:
        wait_until(lambda: not list((world.inbox / NORTH).glob("before/*.dcm")), 60)
    end_trouble()
    scene.assert_recovered()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("level", ["inbox", "inbox/northside"])
def test_an_unmounted_inbox_is_not_an_empty_one(
    make_world: Callable[..., World],
    new_share: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    level: str,
) -> None:
    """Nothing is made at the mount point, files count as waiting, and all goes on when it is back."""
    share = new_share(tmp_path / "data" / level)
    world = make_world()
    world.server.stop()
    scene = begin(world)
    scene.hand_over("before")
    wait_until(lambda: scene.metric('importer_waiting_files{clinic="northside"}') == FILES, 60)
    share.detach()
    wait_until(lambda: scene.metric("importer_inbox_up") == 0, 60)
    assert alert_on("importer_inbox_up") == "InboxGone"
    assert scene.metric('importer_waiting_files{clinic="northside"}') == FILES
    assert list(share.place.iterdir()) == []
    world.server.start()
    share.mount()
    scene.assert_recovered()
    assert scene.lines("is gone: files wait until it is back") == 1
    assert scene.lines("the inbox is back") == 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tree", ["processed", "failed"])
def test_an_unmounted_target_is_not_made_anew_at_its_mount_point(
    make_world: Callable[..., World],
    new_share: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    tree: str,
) -> None:
    """What was filed there would vanish below the share when it is back."""
    share = new_share(tmp_path / "data" / tree)
    scene = begin(make_world())
    scene.hand_over("before")
    wait_until(scene.is_filed)
    share.detach()
    scene.hand_over("during")
    wait_until(lambda: scene.is_blocked("target-gone"), 60, scene.process.output)
    scene.assert_process_lives()
    assert list(share.place.iterdir()) == []
    share.mount()
    scene.assert_recovered()
