"""The process dies between any two steps of a file's way, and the next importer finishes the work.

A fault point is a function of ours that ends the process at once, before or after it did its work: no
handler runs, no buffer is written, as with SIGKILL or a power cut.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from importer.bookkeeper import ORPHAN_SECONDS
from support.corpus import sample_uid
from support.importer_process import run
from support.importing import SOUTH, TurnedClock, wait_for_looks, wait_until
from support.stow_server import Refuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.importing import World

CODE = 77
BEFORE = "import os; import importer.{module} as m; {name} = lambda *a, **k: os._exit(77)"
AFTER = (
    "import os; import importer.{module} as m; "
    "f = {name}; {name} = lambda *a, **k: (f(*a, **k), os._exit(77))"
)


def dies(world: World, when: str, module: str, name: str) -> None:
    patch = when.format(module=module, name=f"m.{name}")
    code, said = run(world, "--once", patch=patch, PROCESSED_PATH=str(world.processed))
    assert code == CODE, said


@pytest.mark.parametrize(
    ("when", "module", "name", "stored_before"),
    [
        pytest.param(BEFORE, "reading.claims", "Claims.reserve", False, id="read-not-reserved"),
        pytest.param(AFTER, "reading.claims", "Claims.reserve", False, id="reserved-not-sent"),
        pytest.param(
            BEFORE,
            "reading.claims",
            "Claims.confirm",
            True,
            id="stored-not-confirmed",
            marks=pytest.mark.short,
        ),
        pytest.param(BEFORE, "files.filing", "Filer.file", True, id="confirmed-not-moved"),
        pytest.param(AFTER, "files.moving", "_rename", True, id="moved-not-compared"),
        pytest.param(BEFORE, "bookkeeper", "refresh", True, id="moved-not-listed"),
        pytest.param(AFTER, "bookkeeper", "refresh", True, id="listed-not-written-down"),
    ],
)
def test_a_crash_on_the_way_to_processed(
    world: World, when: str, module: str, name: str, *, stored_before: bool
) -> None:
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", seed="a", instance_number=n) for n in range(3)}
    dies(world, when, module, name)
    assert bool(world.server.stored) == stored_before
    assert world.waiting() | world.done() == dropped
    with world.running():
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: (world.study(sample_uid("a", "study")) or {}).get("instance_count") == 3)
        wait_until(
            lambda: (row := world.study(sample_uid("a", "study"))) and row["marked"] == row["refreshed"]
        )
    assert (world.study(sample_uid("a", "study")) or {})["state"] == "confirmed"
    assert len(world.server.stored) == 3
    assert world.failures() == {}
    assert world.waiting() == {}


@pytest.fixture
def other_file_system(world: World) -> Iterator[Path]:
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == world.data.stat().st_dev:
        pytest.skip("there is no second file system here")
    made = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(
    ("when", "name", "copies"),
    [
        pytest.param(AFTER, "_copy_bytes", 1, id="copied-not-renamed"),
        pytest.param(AFTER, "_publish", 2, id="renamed-not-synced"),
        pytest.param(BEFORE, "_leave", 2, id="synced-not-removed"),
    ],
)
def test_a_crash_while_a_file_is_moved_across_file_systems(
    world: World, other_file_system: Path, when: str, name: str, copies: int
) -> None:
    """It may be in both places then, and is stored a second time: harmless, and nothing is overwritten."""
    world.options["processed_path"] = other_file_system
    content = world.drop("a.dcm", seed="a")
    dies(world, when, "files.moving", name)
    assert world.waiting() == {"a.dcm": content}
    with world.running():
        wait_until(lambda: not world.waiting() and world.done())
    assert list(world.done().values()) == [content] * copies
    assert len(world.server.stored) == 1


@pytest.mark.parametrize(
    ("when", "module", "name"),
    [
        pytest.param(BEFORE, "files.filing", "write_report", id="refused-not-reported"),
        pytest.param(AFTER, "files.filing", "write_report", id="reported-not-moved", marks=pytest.mark.short),
        pytest.param(AFTER, "files.filing", "move", id="failed-not-counted"),
        pytest.param(BEFORE, "reading.claims", "Claims.drop", id="failed-not-dropped"),
    ],
)
def test_a_crash_on_the_way_to_failed(world: World, when: str, module: str, name: str) -> None:
    """The file ends in failed once, with its report, and the study of which nothing was stored is free."""
    world.server.rule = lambda _sent: Refuses(0xC000)
    content = world.drop("a.dcm", seed="a")
    dies(world, when, module, name)
    clock = TurnedClock()
    with world.running(clock=clock) as importer:
        wait_until(lambda: world.reasons() == {"a.dcm": "cannot-understand"})
        wait_for_looks(importer)
        clock.turn(ORPHAN_SECONDS)
        wait_until(importer.supervise)
        wait_until(lambda: world.study(sample_uid("a", "study")) is None)
        world.server.rule = lambda _sent: None
        world.drop("theirs.dcm", clinic=SOUTH, seed="a", instance_number=2)
        wait_until(lambda: world.done(SOUTH))
    assert world.files(world.failed)["a.dcm"] == content
    assert world.waiting() == {}
