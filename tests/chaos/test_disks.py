"""R3: disks full, read-only, forbidden and gone: files wait, it is told, and all goes on alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support.chaos import Supervisor, said, scaled, scraped, waiting
from support.importing import NORTH, wait_until
from support.monitoring import RULE_FILES, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.chaos_disks import Disk
    from support.importer_process import Process
    from support.importing import World

FILES = scaled(100, 60)
SETTINGS = {"COOLDOWN_SECONDS": "0.1", "RESCAN_SECONDS": "0.2"}


_WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Even root is refused then what a file's mode does not allow."""


@dataclass
class Scene:
    """An importer at work, and what its clinic handed over."""

    world: World
    process: Process
    dropped: dict[str, bytes] = field(default_factory=dict)

    def drop(self, folder: str, count: int = FILES) -> None:
        for number in range(count):
            path = f"{folder}/{number}.dcm"
            self.dropped[path] = self.world.drop(path, seed=folder, instance_number=number)

    def metric(self, name: str) -> float:
        return scraped(self.process).get(name, 0.0)

    def lines(self, text: str) -> int:
        return said(self.process, text)

    def is_blocked(self, *reasons: str) -> bool:
        """As many files as are dropped at once wait for these reasons, by the metrics."""
        told = scraped(self.process)
        names = (f'importer_blocked_files{{clinic="northside",reason="{reason}"}}' for reason in reasons)
        return sum(told.get(name, 0.0) for name in names) == FILES

    def assert_process_lives(self) -> None:
        assert self.process.popen.poll() is None, self.process.output

    def assert_nothing_lost(self) -> None:
        """Each file is somewhere, whole, and the process lives."""
        self.assert_process_lives()
        trees = (self.world.inbox, self.world.processed, self.world.failed)
        there = [content for root in trees for content in self.world.files(root).values()]
        assert set(self.dropped.values()) <= set(there)

    def assert_recovered(self) -> None:
        """All files are filed without anybody's help, and nothing is told to be in trouble."""
        wait_until(lambda: not waiting(self.world), 90)
        assert self.world.done() == self.dropped
        assert self.world.failures() == {}
        wait_until(lambda: self.metric("importer_inbox_up") == 1 and not self._troubled(), 60)

    def _troubled(self) -> bool:
        told = scraped(self.process)
        return any(value for name, value in told.items() if re.match(r"importer_(blocked|stuck)_", name))


@pytest.fixture
def begin(request: pytest.FixtureRequest) -> Callable[..., Scene]:
    """Starts an importer that has no more rights than its files give it, in a world."""

    def begin(world: World) -> Scene:
        process = Supervisor(world, SETTINGS, through=_WITHOUT_RIGHTS).start()
        request.addfinalizer(process.kill)
        process.wait_started()
        return Scene(world, process)

    return begin


def alert_on(metric: str) -> str:
    """The alert whose rule looks at a metric."""
    for path in RULE_FILES:
        for group in read_yaml(path)["groups"]:
            for rule in group["rules"]:
                if "alert" in rule and re.search(rf"\b{metric}\b", rule["expr"]):
                    return str(rule["alert"])
    raise AssertionError(f"no alert looks at {metric}")


def make_trouble(disk: Disk, trouble: str) -> Callable[[], None]:
    """Let a disk be full, without room for another file, or read-only; returns what ends that."""
    if trouble == "read-only":
        disk.remount("ro")
        return lambda: disk.remount("rw")
    fillers = [disk.fill()] if trouble == "full" else disk.use_up_inodes()
    return lambda: [path.unlink() for path in fillers] and None


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
    scene.drop("before")
    wait_until(lambda: scene.world.done() == scene.dropped)
    stored = len(scene.world.server.stored)
    end_trouble = make_trouble(disk, trouble)
    scene.drop("during")
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
    scene.drop("before")
    wait_until(lambda: world.done() == scene.dropped)
    stored = len(world.server.stored)
    place = world.data / tree / folder
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0)
    scene.drop("during")
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
    wait_until(lambda: world.done() == scene.dropped)
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
@pytest.mark.parametrize("trouble", ["full", "inodes", "read-only"])
def test_a_clinics_folder_on_a_disk_in_trouble(
    make_world: Callable[..., World],
    new_tmpfs: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    trouble: str,
) -> None:
    """A full one is emptied all the same; from a read-only one nothing is taken that could not be moved."""
    disk = new_tmpfs(tmp_path / "data" / "inbox" / NORTH, "size=64m,nr_inodes=2000")
    world = make_world()
    world.server.stop()
    scene = begin(world)
    scene.drop("before")
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
@pytest.mark.parametrize("trouble", ["full", "inodes"])
def test_a_catalog_on_a_full_disk_keeps_files_waiting(
    make_world: Callable[..., World],
    new_tmpfs: Callable[..., Disk],
    begin: Callable[..., Scene],
    tmp_path: Path,
    trouble: str,
) -> None:
    disk = new_tmpfs(tmp_path / "disk", "size=16m,nr_inodes=200")
    world = make_world(catalog_folder=disk.place)
    scene = begin(world)
    scene.drop("before")
    wait_until(lambda: world.done() == scene.dropped)
    end_trouble = make_trouble(disk, trouble)
    for number in range(FILES):
        scene.drop(f"during {number}", count=1)
    if trouble == "full":
        wait_until(lambda: scene.metric("importer_catalog_up") == 0, 60)
        assert alert_on("importer_catalog_up") == "CatalogUnreachable"
        # What fits into the room that the database has already is still written: it may come and go.
        assert 1 <= scene.lines("the catalog is away") <= 4
    scene.assert_nothing_lost()
    end_trouble()
    scene.assert_recovered()
    wait_until(lambda: scene.metric("importer_catalog_up") == 1)


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
    scene.drop("before")
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
    scene.drop("before")
    wait_until(lambda: scene.world.done() == scene.dropped)
    share.detach()
    scene.drop("during")
    wait_until(lambda: scene.is_blocked("target-gone"), 60, scene.process.output)
    scene.assert_process_lives()
    assert list(share.place.iterdir()) == []
    share.mount()
    scene.assert_recovered()
