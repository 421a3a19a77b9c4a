"""What clinics deliver: made once, kept below .cache/bench, and put into an inbox by hard links."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from importer.dicom.part10 import read_instance
from importer.dicom.tag import tag
from pacs.archive.parts import FileRange
from pacs.ids import ClinicId
from support.corpus import instance_bytes, sample_uid, write_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = Path(__file__).parents[2] / ".cache" / "bench" / "inbox"
CLINIC = ClinicId("northside")
FRAME_BYTES = 512 * 512


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache, whole: made beside it first if it is not there."""
    folder = CACHE / name
    if not folder.exists():
        unfinished = folder.with_name(f"{name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def ct_studies(files: int, studies: int = 8) -> Path:
    """So many CT files of half a megabyte, a folder for each study."""

    def make(folder: Path) -> None:
        for seed in range(studies):
            write_study(folder / f"study-{seed}", "CT", instances=files // studies, seed=seed, size=512)

    return _kept(f"ct-{files}-{studies}", make)


def small_study(files: int) -> Path:
    """One study of so many files of 30 KB, in series of 1,000."""
    return _kept(f"small-{files}", lambda folder: _write_small(folder, files))


def _write_small(folder: Path, files: int) -> None:
    # One instance for each series is encoded, the others differ from it in the last digits of a number only.
    for series in range((files + 999) // 1000):
        uid = f"1.2.826.0.1.3680043.8.498.{10**15 + series}.10000"
        template = instance_bytes(
            "CT", seed="small", series_uid=sample_uid("small", series), sop_instance_uid=uid, size=122
        )
        inside = folder / f"series-{series:02}"
        inside.mkdir()
        for number in range(min(1000, files - series * 1000)):
            mine = f"{uid.removesuffix('10000')}{10000 + number}"
            (inside / f"IM{number:04}.dcm").write_bytes(template.replace(uid.encode(), mine.encode()))


def multi_frame(frames: int) -> Path:
    """One file with so many native frames of 512 x 512 x 8 bit; its pixels are a hole on the disk."""

    def make(folder: Path) -> None:
        one = instance_bytes("US", seed=frames, frames=1, size=512)
        header, pixel_data, _ = one.rpartition(b"\xe0\x7f\x10\0OB\0\0")
        header = header.replace(b"(\0\x08\0IS\x02\x001 ", b"(\0\x08\0IS\x06\0%-6d" % frames)
        size = frames * FRAME_BYTES
        with (folder / "multi-frame.dcm").open("wb") as file:
            file.write(header + pixel_data + size.to_bytes(4, "little"))
            file.truncate(file.tell() + size)

    return _kept(f"frames-{frames}", make)


def files_below(folder: Path) -> list[Path]:
    """Its files, in the order in which they are sent."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def link(folder: Path, into: Path) -> int:
    """The same files once more at no cost, to be delivered by one rename; returns how many."""
    shutil.copytree(folder, into, copy_function=os.link)
    return len(files_below(into))


def tagged(path: Path) -> Iterator[bytes]:
    """The bytes of a file as the importer would send them."""
    with ExitStack() as stack:
        fd = os.open(path, os.O_RDONLY)
        stack.callback(os.close, fd)
        instance = stack.enter_context(
            tag(read_instance(fd), fd, CLINIC, modified_at=datetime.now(UTC), temporary_folder=path.parent)
        )
        for segment in instance.segments:
            if isinstance(segment, FileRange):
                yield from _read(segment)
            else:
                yield segment


def _read(segment: FileRange) -> Iterator[bytes]:
    for offset in range(0, segment.length, 1 << 20):
        yield os.pread(segment.fd, min(1 << 20, segment.length - offset), segment.offset + offset)
