"""An importer at work on disks that get into trouble, and what must hold whatever they do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support.chaos import Supervisor, said, scaled, scraped, waiting
from support.importing import wait_until
from support.monitoring import RULE_FILES, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.chaos_disks import Disk
    from support.importer_process import Process
    from support.importing import World

FILES = scaled(100, 60)
SETTINGS = {"COOLDOWN_SECONDS": "0.1", "RESCAN_SECONDS": "0.2"}
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Even root is refused then what a file's mode does not allow."""


@dataclass
class Scene:
    """An importer at work, and what its clinic handed over; `bad` is no DICOM and belongs into failed."""

    world: World
    process: Process
    dropped: dict[str, bytes] = field(default_factory=dict)
    bad: dict[str, bytes] = field(default_factory=dict)

    def drop(self, folder: str, count: int = FILES) -> None:
        for number in range(count):
            path = f"{folder}/{number}.dcm"
            self.dropped[path] = self.world.drop(path, seed=folder, instance_number=number)

    def hand_over(self, folder: str) -> None:
        """FILES of them, the last of which is bad."""
        self.drop(folder, FILES - 1)
        path = f"{folder}/bad.dcm"
        self.bad[path] = self.world.drop(path, b"no image " + path.encode())

    def filed(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """What is in processed, and in failed beside the reports."""
        failed = self.world.files(self.world.failed)
        bad = {path: content for path, content in failed.items() if not path.endswith(".error.json")}
        return self.world.done(), bad

    def is_filed(self) -> bool:
        """Whether all files are where they belong."""
        return self.filed() == (self.dropped, self.bad)

    def metric(self, name: str) -> float:
        return scraped(self.process).get(name, 0.0)

    def lines(self, text: str) -> int:
        return said(self.process, text)

    def is_blocked(self, *reasons: str) -> bool:
        """As many files as are handed over at once wait for these reasons, by the metrics."""
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
        assert {*self.dropped.values(), *self.bad.values()} <= set(there)

    def assert_recovered(self) -> None:
        """All files are filed without anybody's help, and nothing is told to be in trouble."""
        wait_until(lambda: not waiting(self.world), 90)
        assert self.filed() == (self.dropped, self.bad)
        assert self.world.reasons() == dict.fromkeys(self.bad, "not-dicom")
        wait_until(lambda: self.metric("importer_inbox_up") == 1 and not self._troubled(), 60)

    def _troubled(self) -> bool:
        told = scraped(self.process)
        return any(value for name, value in told.items() if re.match(r"importer_(blocked|stuck)_", name))


@pytest.fixture
def begin(request: pytest.FixtureRequest) -> Callable[..., Scene]:
    """Starts an importer that has no more rights than its files give it, in a world."""

    def begin(world: World) -> Scene:
        process = Supervisor(world, SETTINGS, through=WITHOUT_RIGHTS).start()
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
