"""Inbox to archive: a study of 20,000 small files, and one file of 2 GB; how fast, and in how much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import interleaved
from bench.servers.importing import Delivery
from bench.servers.inbox_data import FRAME_BYTES, multi_frame, small_study
from bench.servers.stow import Prepared, Way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options

_BATCH = 50
_WAY = Way(4, 50)
_SCRIPT = "a script with pydicom and dicomweb-client"


def run(options: Options) -> Iterator[Figure]:
    """P1b-small and P4-files, P1b-large and P4-large."""
    # Each of the long ones is its own average.
    rounds = 2 if options.quick else 1
    small = 2000 if options.quick else 20_000
    frames = 800 if options.quick else 8000
    yield from _small(Delivery(small_study(small), options.folder), small, rounds, options)
    yield from _large(Delivery(multi_frame(frames), options.folder), frames, rounds, options)


def _small(delivery: Delivery, files: int, rounds: int, options: Options) -> Iterator[Figure]:
    prepared = Prepared(delivery.source, options.folder / "prepared")
    found = interleaved(
        {
            "ours": delivery.by_our_importer,
            "script": lambda: delivery.by_script(_BATCH),
            "ceiling": lambda: delivery.by_ready_requests(prepared, _WAY),
        },
        rounds,
    )
    stored = f"one study of {files:,} files of 30 KB"
    cpu = Sample(tuple(each.importer for each in delivery.drained))
    yield Figure(
        key="P1b-small",
        what=f"{stored}, from stable to stored and filed",
        unit="files/s",
        ours=found["ours"],
        peer=found["script"],
        peer_name=f"{_SCRIPT}, {_BATCH} a request",
        goal=Goal("ratio", at_least=2),
        rows=(
            Row(f"ready requests, STOW-RS, {_WAY}", "files/s", found["ceiling"]),
            Row("the importer's processor time", "ms of CPU a file", cpu),
        ),
        note="Measured as P1. The ready requests are the most that this Orthanc takes of such files: it "
        "spends its time on its index, file by file, whoever sends them.",
    )
    yield _memory(delivery, "P4-files", f"peak memory of the importer with {stored}")


def _large(delivery: Delivery, frames: int, rounds: int, options: Options) -> Iterator[Figure]:
    megabytes = frames * FRAME_BYTES / 1e6
    prepared = Prepared(delivery.source, options.folder / "prepared")
    found = interleaved(
        {
            "ours": lambda: delivery.by_our_importer() * megabytes,
            "script": lambda: delivery.by_script(1) * megabytes,
            "ceiling": lambda: delivery.by_ready_requests(prepared, Way(1, 1)) * megabytes,
        },
        rounds,
    )
    stored = f"one multi-frame file of {megabytes:,.0f} MB"
    yield Figure(
        key="P1b-large",
        what=f"{stored}, from stable to stored and filed",
        unit="MB/s",
        ours=found["ours"],
        peer=found["script"],
        peer_name=_SCRIPT,
        goal=Goal("ratio", at_least=2),
        rows=(
            Row("a ready request, STOW-RS", "MB/s", found["ceiling"]),
            Row(
                "Orthanc's processor time under ours",
                "s",
                Sample(tuple(each.server / 1000 for each in delivery.drained)),
            ),
        ),
        note="Native frames of 512 x 512 x 8 bit. Orthanc receives the file into memory, hashes, writes and "
        "syncs it, one after the other: the ready request, which the kernel sends from the disk's cache, "
        "shows how little of the time is the importer's.",
    )
    yield _memory(delivery, "P4-large", f"peak memory of the importer with {stored}")


def _memory(delivery: Delivery, key: str, what: str) -> Figure:
    return Figure(
        key=key,
        what=what,
        unit="MB",
        ours=Sample(tuple(each.megabytes for each in delivery.drained)),
        goal=Goal("ours", at_most=150),
        more_is_better=False,
        note="The most that was resident (VmHWM), of the whole process from its start to the empty inbox.",
    )
