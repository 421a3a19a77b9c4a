"""The importer dies before every single step of a file's way, and the next one finishes the work.

Not a list of places: `support.dying` finds whatever cannot be taken back, and each gets its crash.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import chaos
from support.corpus import instance_bytes, sample_uid
from support.dying import Lives
from support.importer_process import environment
from support.importing import NORTH, SOUTH, World
from support.stow_server import Refuses, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs.ids import ClinicId
    from support.stow_server import Stored

KILLED = -9
MOST_ALIKE = chaos.scaled(4)
"""A step that is taken again and again is died before so often."""
KNOWN = "known"
TAIL = 512
"""Bytes of pixels at the end of each file."""
EVER_STORED: set[bytes] = set()

Places = set[tuple[str, str]]
"""Where a step must have been found, by the beginning of its function's name, and what it is."""
_ON_ANY_WAY: Places = {
    ("importer.reading.claims._ask", "commit"),
    ("pacs.archive.stow.", "send"),
    ("pacs.archive.stow.", "receive"),
    ("pacs.archive.stow.", "receive, done"),
    ("importer.bookkeeper._write_imports", "commit"),
    ("importer.files.", "mkdir"),
    ("importer.files.", "renameat2"),
}
_STORED: Places = {("importer.reading.claims.confirm", "commit"), ("pacs.refreshing.", "commit")}
_COPIED: Places = {("importer.files.", what) for what in ("create", "fsync", "utime", "unlink")}
_REFUSED: Places = {
    *(("importer.files.", what) for what in ("create", "fsync", "rename")),
    ("importer.reading.claims.drop", "commit"),
}


@pytest.fixture(params=["one", "two"])
def file_systems(request: pytest.FixtureRequest, world: World) -> Iterator[int]:
    """Inbox, processed and failed lie on one, or the latter two on another."""
    if request.param == "one":
        yield 1
        return
    if Path("/dev/shm").stat().st_dev == world.data.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    world.options |= {"processed_path": folder / "processed", "failed_path": folder / "failed"}
    yield 2
    shutil.rmtree(folder)


@pytest.fixture
def lives(world: World, file_systems: int) -> Iterator[Lives]:
    settings = environment(
        world,
        PROCESSED_PATH=str(world.processed),
        FAILED_PATH=str(world.failed),
        COOLDOWN_SECONDS="0.05",
        RESCAN_SECONDS="0.1",
        ARCHIVE_STABLE_AGE_SECONDS="0",
    )
    made = Lives(settings, world.data.parent)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def ever_stored(world: World) -> None:
    """Remembers the pixels of what a corrected image has replaced since."""
    EVER_STORED.clear()
    keep = world.server.keep

    def remember(parts: dict[str, Stored]) -> None:
        EVER_STORED.update(part.content[-TAIL:] for part in parts.values())
        keep(parts)

    world.server.keep = remember  # type: ignore[method-assign]


def everywhere(world: World, clinic: ClinicId) -> list[bytes]:
    trees = (world.inbox, world.processed, world.failed)
    return [content for tree in trees for content in world.files(tree, clinic).values()]


def assert_nothing_is_lost(world: World, dropped: dict[ClinicId, list[bytes]], copies: int, at: str) -> None:
    """At any moment: each file is somewhere, and the archive has what is in processed."""
    for clinic, contents in dropped.items():
        held = Counter(everywhere(world, clinic))
        for content in contents:
            assert 1 <= held[content] <= copies, at
        for path, content in world.done(clinic).items():
            assert content[-TAIL:] in EVER_STORED, f"{at}: {path} is in processed and not in the archive"
        assert "unexplained" not in world.reasons(clinic).values(), at
    known = world.study(sample_uid(KNOWN, "study")) or {}
    assert (known["clinic_id"], known["state"]) == (NORTH, "confirmed"), at
    for each in world.server.find(StudyInstanceUID=sample_uid(KNOWN, "study")):
        assert each.InstitutionName == NORTH, at


def instance(seed: str, number: int, version: int = 0) -> bytes:
    """One whose pixels tell it from every other."""
    content = instance_bytes(seed=seed, instance_number=number, size=16)
    mark = f"{seed} {number} {version}".encode().ljust(64)
    return content[:-64] + mark


def store_known(world: World, lives: Lives) -> None:
    world.drop("known/1.dcm", instance(KNOWN, 1))
    code, _ = lives.live()
    assert code == 0


def survive(
    lives: Lives,
    world: World,
    drop: Callable[[int], dict[ClinicId, list[bytes]]],
    check: Callable[[int, int, str], None],
    copies: int,
) -> Counter[str]:
    """A crash before every step that any life takes, and another life after each; before which it died."""
    died: Counter[str] = Counter()
    waiting, known = deque([("", 1)]), {("", 1)}
    number = 0
    while waiting:
        step, nth = waiting.popleft()
        number += 1
        dropped = drop(number)
        code, taken = lives.live(step, nth)
        at = f"crash {number}, before {step} for the {nth}. time"
        assert_nothing_is_lost(world, dropped, copies, at)
        if code == KILLED:
            died[step] += 1
            code, _ = lives.live(orphan_seconds=0)
            assert_nothing_is_lost(world, dropped, copies, at)
        check(number, code, at)
        for each, count in taken.items():
            new = {(each, nth) for nth in range(1, min(count, MOST_ALIKE) + 1)} - known
            known |= new
            waiting.extend(sorted(new))
    return died


def assert_clean(world: World, uid: str, instances: int, at: str) -> None:
    row = world.study(uid) or {}
    assert (row["clinic_id"], row["state"], row["instance_count"]) == (NORTH, "confirmed", instances), at
    assert row["marked"] == row["refreshed"], at


def assert_found(died: Counter[str], places: Places) -> None:
    for place, what in places:
        assert any(step.startswith(place) and step.endswith(f": {what}") for step in died), (
            place,
            what,
            died,
        )


def tell(died: Counter[str], what: str) -> None:
    chaos.counts.append(f"{what}: {died.total()} crashes at {len(died)} different steps")


@pytest.mark.timeout(1800)
def test_a_crash_before_every_step_on_the_way_to_processed(
    world: World, lives: Lives, file_systems: int
) -> None:
    """Two files of a new study, and a corrected one of a study that is stored."""
    store_known(world, lives)

    def drop(number: int) -> dict[ClinicId, list[bytes]]:
        new = [world.drop(f"{number}/{n}.dcm", instance(f"new {number}", n)) for n in (1, 2)]
        return {NORTH: [*new, world.drop(f"{number}/known.dcm", instance(KNOWN, 1, number))]}

    def check(number: int, code: int, at: str) -> None:
        assert code == 0, at
        assert world.waiting() == {}, at
        assert world.failures() == {}, at
        assert_clean(world, sample_uid(f"new {number}", "study"), 2, at)
        assert_clean(world, sample_uid(KNOWN, "study"), 1, at)
        (known,) = [
            each.content
            for each in world.server.stored.values()
            if each.header.StudyInstanceUID == sample_uid(KNOWN, "study")
        ]
        assert known[-TAIL:] == instance(KNOWN, 1, number)[-TAIL:], at

    died = survive(lives, world, drop, check, copies=file_systems)
    tell(died, f"to processed, {file_systems} file systems")
    assert_found(died, _ON_ANY_WAY | _STORED | (_COPIED if file_systems > 1 else set()))


@pytest.mark.timeout(1800)
def test_a_crash_before_every_step_on_the_way_to_failed(
    world: World, lives: Lives, file_systems: int
) -> None:
    """One file of another clinic's study, and one of a new study that the archive refuses."""
    store_known(world, lives)

    def refuse(sent: Sent) -> Refuses | None:
        return Refuses(0xC000, frozenset(sent.uids) - {sample_uid(KNOWN, "instance")})

    world.server.rule = refuse
    stolen = {}

    def drop(number: int) -> dict[ClinicId, list[bytes]]:
        stolen[number] = instance(KNOWN, 1000 + number)
        return {
            SOUTH: [
                world.drop(f"{number}/theirs.dcm", stolen[number], SOUTH),
                world.drop(f"{number}/bad.dcm", instance(f"bad {number}", 1), SOUTH),
            ]
        }

    def check(number: int, code: int, at: str) -> None:
        assert code in {0, 1}, at
        assert world.waiting(SOUTH) == {}, at
        reasons = world.reasons(SOUTH)
        assert reasons[f"{number}/theirs.dcm"] == "study-owned-by-another-clinic", at
        assert reasons[f"{number}/bad.dcm"] == "cannot-understand", at
        lives.live(orphan_seconds=0)
        assert world.study(sample_uid(f"bad {number}", "study")) is None, at
        assert stolen[number][-TAIL:] not in {each.content[-TAIL:] for each in world.server.stored.values()}

    died = survive(lives, world, drop, check, copies=file_systems)
    tell(died, f"to failed, {file_systems} file systems")
    assert_found(died, _ON_ANY_WAY | _REFUSED | (_COPIED if file_systems > 1 else set()))
