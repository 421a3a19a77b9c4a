"""Disks that fill up, go away and lose power: small file systems mounted for a test, which needs root."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import missing

from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/ext4.h
_NO_LOG_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH


@dataclass
class Disk:
    """A file system of its own at `place`.

    Attributes:
        place: the mount point.
        what: `tmpfs`, the path of an ext4 image, or that of a folder that is shown here, too.
        options: of mount(8); `bind` for a folder.
    """

    place: Path
    what: str
    options: str

    def mount(self) -> None:
        """Mount it; a tmpfs is empty then."""
        kind = ["-t", "tmpfs"] if self.what == "tmpfs" else []
        _run("mount", *kind, "-o", self.options, self.what, str(self.place))

    def remount(self, options: str) -> None:
        """Change its options while it is in use: `ro`, `rw`, `size=...`."""
        _run("mount", "-o", f"remount,{options}", str(self.place))

    def unmount(self) -> None:
        """Unmount it as soon as nobody uses it; what is mounted no longer is no trouble."""
        if os.path.ismount(self.place):
            wait_until(lambda: _status("umount", str(self.place)) == 0)

    def detach(self) -> None:
        """Unmount it although it is in use."""
        _run("umount", "--lazy", str(self.place))

    def dismantle(self) -> None:
        """At the end of a test, however it is."""
        while os.path.ismount(self.place):
            self.detach()

    def cut_power(self) -> None:
        """Nothing reaches an ext4 disk from now on, not even its journal."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def damage(self) -> None:
        """Let an ext4 disk find an error: with `errors=remount-ro` it is read-only from now on."""
        device = self.place.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")

    def sync(self) -> None:
        """Everything on it so far is durable."""
        _run("sync", "--file-system", str(self.place))

    def fill(self, leave: int = 0) -> Path:
        """Take up its room but for so many bytes; returns the file to remove."""
        filler = self.place / ".filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))
        if leave:
            os.truncate(filler, max(0, filler.stat().st_size - leave))
        return filler

    def use_up_inodes(self) -> list[Path]:
        """Make files until there is no room for another one; returns those to remove."""
        made = []
        with suppress(OSError):
            while True:
                path = self.place / f".filler-{len(made)}"
                path.touch(exist_ok=False)
                made.append(path)
        return made


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _status(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _require_mounts(folder: Path) -> None:
    probe = folder / "probe"
    probe.mkdir(exist_ok=True)
    if _status("mount", "-t", "tmpfs", "tmpfs", str(probe)):
        missing("the right to mount file systems")
    _run("umount", str(probe))


@pytest.fixture
def new_tmpfs(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Makes small disks in memory: `new_tmpfs(place, "size=32m")`."""
    _require_mounts(tmp_path)
    with ExitStack() as stack:

        def make(place: Path, options: str = "size=64m") -> Disk:
            place.mkdir(parents=True, exist_ok=True)
            disk = Disk(place, "tmpfs", options)
            disk.mount()
            stack.callback(disk.dismantle)
            return disk

        yield make


@pytest.fixture
def new_share(tmp_path: Path, new_tmpfs: Callable[..., Disk]) -> Iterator[Callable[..., Disk]]:
    """Makes disks that keep what they hold while they are unmounted: `new_share(place)`."""
    with ExitStack() as stack:

        def make(place: Path) -> Disk:
            place.mkdir(parents=True, exist_ok=True)
            disk = Disk(place, str(new_tmpfs(tmp_path / "share").place), "bind")
            disk.mount()
            stack.callback(disk.dismantle)
            return disk

        yield make


@pytest.fixture
def new_ext4(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Makes disks that can lose power: `new_ext4(place)`."""
    _require_mounts(tmp_path)
    with ExitStack() as stack:

        def make(place: Path, megabytes: int = 256, options: str = "") -> Disk:
            place.mkdir(parents=True, exist_ok=True)
            image = place.with_suffix(".img")
            with image.open("wb") as file:
                file.truncate(megabytes << 20)
            _run("mkfs.ext4", "-q", str(image))
            disk = Disk(place, str(image), ",".join(filter(None, ["loop", options])))
            disk.mount()
            stack.callback(disk.dismantle)
            return disk

        yield make
