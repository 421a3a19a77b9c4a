"""R4: each of many damaged files is stored as it was dropped, or in failed with a reason, and that is all."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import time
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from importer.files.tree import make_folder
from importer.metrics import FAILURE_REASONS
from support import outside
from support.chaos import counts, leftovers, scaled, scraped
from support.corpus import instance_bytes, make_instance
from support.damaged import PER_STUDY, behind_the_history, damaged, deflated, header_of, hostile_name
from support.dicom_files import data_set
from support.importer_process import Process
from support.importing import NORTH, SOUTH, World, wait_until
from support.raw import ITEM, SEQUENCE_END, explicit, implicit
from support.stow_server import Sent, Swallows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from importer.dicom.part10 import InstanceHeader

FILES = 100_000
MEMORY_MB = 150
_WAVE = 10_000
_OWNERSHIP = {
    "patient-id-differs",
    "series-in-another-study",
    "study-owned-by-another-clinic",
    "series-owned-by-another-clinic",
}


@dataclass
class Dropped:
    """One file: what was done to it, its bytes, and what the importer must find in them."""

    damage: str
    content: bytes
    expected: InstanceHeader | str


@dataclass
class Wave:
    """Files that are handed over together, by their inodes, which they keep wherever they are moved."""

    world: World
    files: dict[int, Dropped] = field(default_factory=dict)
    kept: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    results: Counter[tuple[str, str]] = field(default_factory=Counter)

    def hand_over(self, numbers: range) -> None:
        """Make a folder for each clinic and move it into the inbox as a whole."""
        staging = self.world.data / "staging"
        for number in numbers:
            clinic = (NORTH, SOUTH)[number // PER_STUDY % 2]
            folder = os.fsencode(staging / clinic) + b"/study %d" % (number // 100)
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - bytes
            self._write(folder + b"/" + hostile_name(number), number)
        for clinic in (NORTH, SOUTH):
            if (staging / clinic).exists():
                (staging / clinic).rename(self.world.inbox / clinic / f"wave {numbers.start}")
        staging.rmdir()

    def _write(self, path: bytes, number: int) -> None:
        damage, content = damaged(number)
        if os.path.exists(path):  # noqa: PTH110 - bytes
            path += b"%d" % number
        with open(path, "xb") as file:  # noqa: PTH123 - bytes
            file.write(content)
            self.files[os.fstat(file.fileno()).st_ino] = Dropped(damage, content, header_of(content))

    def check(self) -> None:
        """Each file is in exactly one place, byte for byte, for a reason; then they are taken away."""
        for tree, outcome in ((self.world.processed, self._processed), (self.world.failed, self._failed)):
            for path in paths_below(tree):
                dropped = self.files.pop(os.lstat(path).st_ino, None)
                if dropped is None:
                    assert path.endswith(b".error.json"), path
                    continue
                assert Path(os.fsdecode(path)).read_bytes() == dropped.content, path
                self.results[dropped.damage, outcome(path, dropped)] += 1
        assert not self.files, f"{len(self.files)} files are nowhere"
        self._check_stored()
        for tree in (self.world.processed, self.world.failed):
            for day in tree.glob("*/20*"):
                shutil.rmtree(os.fsencode(day))
        self.world.server.stored.clear()
        self.world.server.times_stored.clear()
        self.world.server.requests.clear()

    def _processed(self, path: bytes, dropped: Dropped) -> str:
        header = dropped.expected
        if isinstance(header, str):
            assert header == "dicomdir", path
            return "skipped"
        self.kept[header.sop_instance_uid].append(behind_the_history(dropped.content, header))
        return "stored"

    @staticmethod
    def _failed(path: bytes, dropped: Dropped) -> str:
        report = json.loads(Path(os.fsdecode(path + b".error.json")).read_text("utf-8"))
        assert report["text"]
        assert report["size"] == len(dropped.content)
        assert report["reason"] in FAILURE_REASONS
        expected = {dropped.expected} if isinstance(dropped.expected, str) else _OWNERSHIP
        assert report["reason"] in expected, path
        return str(report["reason"])

    def _check_stored(self) -> None:
        """The archive has what was filed as processed and nothing else, pixel data as it was dropped."""
        server = self.world.server
        assert server.stored.keys() == self.kept.keys()
        for uid, contents in self.kept.items():
            content = server.stored[uid].content
            header = header_of(content)
            assert not isinstance(header, str), header
            assert behind_the_history(content, header) in contents
            assert server.times_stored[uid] == len(contents)
        self.kept.clear()


def paths_below(tree: Path) -> Iterator[bytes]:
    for base, _, names in os.walk(os.fsencode(tree)):
        yield from (base + b"/" + name for name in names)


def is_a_clinics(path: bytes) -> bool:
    return not path.endswith(b"/.importer.lock")


def peak_memory_mb(process: Process) -> float:
    """The most that was ever resident."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@pytest.fixture
def process(world: World) -> Iterator[Process]:
    started = Process.start(world)
    yield started
    started.kill()


def assert_well(process: Process) -> None:
    """It runs, met no oddity, holds up nothing, and did not grow."""
    assert process.popen.poll() is None, process.output[-2000:]
    samples = scraped(process)
    assert samples["importer_internal_errors_total"] == 0
    assert (
        sum(value for name, value in samples.items() if "stuck_files{" in name or "blocked_files{" in name)
        == 0
    )
    assert len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir())) < 100
    assert peak_memory_mb(process) < MEMORY_MB


@pytest.mark.timeout(3600)
def test_each_of_100000_damaged_files_is_stored_as_it_was_dropped_or_failed_with_a_reason(
    world: World, process: Process
) -> None:
    around = outside.lay_out(world.data.parent / "outside")
    before = outside.snapshot(around)
    wave, started, files = Wave(world), time.monotonic(), scaled(FILES)
    for first in range(0, files, _WAVE):
        wave.hand_over(range(first, min(first + _WAVE, files)))
        wait_until(lambda: not any(map(is_a_clinics, paths_below(world.inbox))), 240, process.output[-500:])
        wave.check()
    outcomes = Counter(outcome for _, outcome in wave.results.elements())
    assert outcomes.total() == files
    assert {outcome for damage, outcome in wave.results if damage == "whole"} <= {"stored", *_OWNERSHIP}
    told = scraped(process)
    for outcome in ("stored", "skipped", "failed"):
        counted = sum(
            told[f'importer_files_total{{clinic="{each}",outcome="{outcome}"}}'] for each in (NORTH, SOUTH)
        )
        expected = (
            outcomes[outcome] if outcome != "failed" else files - outcomes["stored"] - outcomes["skipped"]
        )
        assert counted == expected
    assert_well(process)
    assert leftovers(world) == []
    assert outside.snapshot(around) == before
    counts.append(
        f"R4 damaged: {files} files in {time.monotonic() - started:.0f} s, "
        f"{peak_memory_mb(process):.0f} MB at most: {dict(outcomes.most_common())}"
    )
    table = defaultdict(dict)
    for (damage, outcome), count in sorted(wave.results.items(), key=lambda each: -each[1]):
        table[damage][outcome] = count
    for damage, each in table.items():
        counts.append(f"R4 {damage}: {each}")


def _without_rights() -> list[str]:
    """Root reads everything: the importer goes without that, as in production."""
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def _links_and_pipes(folder: Path, around: Path) -> int:
    """What is no regular file; how many there are."""
    (folder / "file.dcm").symlink_to(around / "IM0001.dcm")
    (folder / "folder").symlink_to(around / "studies")
    (folder / "up").symlink_to("../..")
    (folder / "dangling.dcm").symlink_to("nowhere")
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    os.mkfifo(folder / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket.dcm"))
    if os.geteuid() == 0:
        os.mknod(folder / "null.dcm", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(folder / "disk.dcm", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    with make_folder(folder, ["d"] * 105):
        pass
    return len([path for path in folder.iterdir() if path.name != "d"]) + 1


def _under_way(world: World) -> int:
    names = [".hidden.dcm", "~a.dcm", "a.part", "a.dcm.filepart", "...", "..\\..\\etc\\passwd", "..%2f.."]
    for name in names:
        (world.inbox / NORTH / name).write_bytes(instance_bytes(seed=name))
    return len(names)


def _shut(world: World) -> list[tuple[Path, int]]:
    """Folders and files that cannot be read or left, with the rights that they get in the end."""
    world.drop("unreadable.dcm", seed="unreadable")
    for name in ("locked", "not searchable", "not writable"):
        world.drop(f"{name}/a.dcm", seed=name)
    folder = world.inbox / NORTH
    rights = {"unreadable.dcm": 0, "locked": 0, "not searchable": 0o600, "not writable": 0o555}
    for name, mode in rights.items():
        (folder / name).chmod(mode)
    return [(folder / name, 0o644 if name.endswith(".dcm") else 0o755) for name in rights]


@pytest.mark.timeout(120)
def test_what_is_left_in_the_inbox_is_counted_and_nothing_around_it_touched(world: World) -> None:
    around = outside.lay_out(world.data.parent / "outside")
    special = _links_and_pipes(world.inbox / NORTH, around)
    under_way = _under_way(world)
    os.link(around / "IM0001.dcm", world.inbox / NORTH / "hard link.dcm")
    before = outside.snapshot(around)
    deep = instance_bytes(seed="deep")
    with make_folder(world.inbox, [NORTH, *["p" * 200] * 40]) as longer_than_path_max:
        descriptor = os.open("a.dcm", os.O_WRONLY | os.O_CREAT, dir_fd=longer_than_path_max)
        os.write(descriptor, deep)
        os.close(descriptor)
    shut = _shut(world)
    process = Process.start(world, through=_without_rights())
    expected = {
        "importer_special_files": special,
        "importer_uploading_files": under_way,
        "importer_unreadable_folders": 2,
        'importer_blocked_files{clinic="northside",reason="unreadable"}': 1,
        'importer_blocked_files{clinic="northside",reason="source-not-writable"}': 1,
        'importer_files_total{clinic="northside",outcome="stored"}': 1,
        'importer_failures_total{clinic="northside",reason="not-dicom"}': 1,
    }
    try:
        wait_until(lambda: told(process, expected) == expected, 30, what=str(expected))
        assert world.server.times_stored == {sample_uid_of("deep"): 1}
        for path, mode in shut:
            path.chmod(mode)
        wait_until(lambda: len(world.server.stored) == 5, 90)
        wait_until(lambda: told(process, expected)["importer_special_files"] == special)
        assert_well(process)
    finally:
        process.kill()
        for path in [*world.inbox.glob("*/ppp*"), *world.processed.glob("*/*/ppp*")]:
            shutil.rmtree(path)
    assert outside.snapshot(around) == before


def told(process: Process, names: Iterable[str]) -> dict[str, float]:
    """These samples of northside."""
    samples = scraped(process)
    return {name: samples.get(name if "{" in name else f'{name}{{clinic="northside"}}', 0) for name in names}


def sample_uid_of(seed: str) -> str:
    return str(make_instance(seed=seed).SOPInstanceUID)


def _deflated_file(body: bytes) -> bytes:
    content = instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=8)
    return content[: 144 + int.from_bytes(content[140:144], "little")] + body


def _slowest() -> bytes:
    """Sixty kilobytes that take the reader three seconds: the most for a byte that was found."""
    plain = data_set(instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=8))
    return _deflated_file(deflated(plain + explicit(0x7FE10010, b"OB") * 1_100_000))


@pytest.mark.timeout(300)
def test_a_clinic_of_slow_files_does_not_hold_up_another(world: World, process: Process) -> None:
    slow = _slowest()
    assert len(slow) < 100_000
    for number in range(8):
        world.drop(f"{number}.dcm", slow)
    wait_until(lambda: world.reasons() == {"0.dcm": "too-many-elements"}, 60)
    dropped = {
        f"{number}.dcm": world.drop(f"{number}.dcm", clinic=SOUTH, seed=number) for number in range(60)
    }
    wait_until(lambda: world.done(SOUTH) == dropped, 60)
    assert len(world.waiting()) > 2
    wait_until(lambda: set(world.reasons().values()) == {"too-many-elements"} and not world.waiting(), 120)
    assert len(world.reasons()) == 8
    assert_well(process)


@pytest.mark.timeout(300)
def test_what_becomes_large_in_memory_does_not(world: World, process: Process) -> None:
    """Each is kept until it is stored, and a hundred are in hand."""
    small = instance_bytes(size=8)
    empties = b"".join(explicit(0x00020000 | number, b"SH") for number in range(0x100, 0xFF00))
    private = explicit(0x00020102, b"OB", bytes(200_000))
    groups = b"".join(explicit(group << 16 | 0x10, b"SH") for group in range(0x7FE1, 0xFFFE))
    for number in range(scaled(200, 100)):
        own = instance_bytes(size=8, instance_number=number)
        world.drop(f"{number}/empties.dcm", small[:132] + empties + small[132:])
        world.drop(f"{number}/groups.dcm", own + groups)
        world.drop(f"{number}/private.dcm", own[:132] + private + own[132:], clinic=SOUTH)
    wait_until(lambda: not any(map(is_a_clinics, paths_below(world.inbox))), 200)
    assert_well(process)


def _sparse(path: Path, parts: list[tuple[bytes, int]]) -> Path:
    """Each part's bytes, and a hole behind it."""
    with path.open("wb") as file:
        for content, hole in parts:
            file.write(content)
            file.seek(hole, os.SEEK_CUR)
        file.truncate()
    return path


def _bomb(size: int) -> bytes:
    """A deflate stream of so many zeros."""
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    plain = data_set(instance_bytes("MR", transfer_syntax=DeflatedExplicitVRLittleEndian, size=8))
    begin = stream.compress(plain) + stream.flush(zlib.Z_FULL_FLUSH)
    unit = stream.compress(bytes(1 << 24)) + stream.flush(zlib.Z_FULL_FLUSH)
    return begin + unit * (size >> 24) + stream.flush()


@pytest.mark.timeout(900)
def test_files_of_gigabytes_take_neither_memory_nor_the_others_turn(world: World, process: Process) -> None:
    """5 GB that are none, that are one instance, and that a few megabytes inflate to."""
    gigabyte = scaled(1 << 30, 1 << 26)
    staging = world.data / "staging"
    staging.mkdir()
    whole = instance_bytes("US", transfer_syntax=RLELossless, seed="huge")
    native = instance_bytes("MR", size=8, seed="cut")
    uid = sample_uid_of_us("huge")
    fragment = implicit(ITEM, b"", gigabyte)
    files = {
        # As large at any scale: fewer zeros are what fills up a file.
        "zeros": [(b"", 5 << 30)],
        "zeros behind": [(native, 5 << 30)],
        "a claim of 4 GB": [(native + explicit(0x7FE10010, b"OB", b"", 0xFFFFFFFE), 3 * gigabyte)],
        "deflated zeros": [(_deflated_file(b""), 5 * gigabyte)],
        "bomb": [(_deflated_file(_bomb(10 * gigabyte)), 0)],
        "instance": [(whole[:-8], 0), *[(fragment, gigabyte)] * 5, (implicit(SEQUENCE_END), 0)],
    }
    for name, parts in files.items():
        _sparse(staging / f"{name}.dcm", parts)
    world.server.rule = Swallowing(uid, gigabyte)
    staging.rename(world.inbox / NORTH / "huge")
    dropped = {
        f"{number}.dcm": world.drop(f"{number}.dcm", clinic=SOUTH, seed=number) for number in range(20)
    }
    wait_until(lambda: world.done(SOUTH) == dropped, 120)
    wait_until(lambda: not list((world.inbox / NORTH).glob("*/*")), 600)
    assert world.reasons() == {
        "huge/zeros.dcm": "not-dicom",
        "huge/zeros behind.dcm": "trailing-garbage",
        "huge/a claim of 4 GB.dcm": "truncated",
        "huge/deflated zeros.dcm": "malformed-deflate",
        "huge/bomb.dcm": "inflates-too-far",
    }
    assert world.server.times_stored[uid] == 1
    assert [path.name for path in (world.processed / NORTH).rglob("*.dcm")] == ["instance.dcm"]
    assert_well(process)


def sample_uid_of_us(seed: str) -> str:
    return str(make_instance("US", transfer_syntax=RLELossless, seed=seed).SOPInstanceUID)


@dataclass(frozen=True)
class Swallowing:
    """An archive's rule: a request of more than `size` bytes holds the instance `uid`."""

    uid: str
    size: int

    def peek(self, length: int) -> Swallows | None:
        return Swallows(self.uid) if length > self.size else None

    def __call__(self, _sent: Sent) -> None:
        return
