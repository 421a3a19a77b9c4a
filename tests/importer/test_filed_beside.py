"""A study's folder whose name a file already has under processed is filed, watched and returned beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.files.processed_watch import ProcessedWatch
from importer.files.tree import Identity
from importer.work import Place, Settlement, WaitingFile
from support.importing import NORTH

if TYPE_CHECKING:
    from support.importing import World


def test_what_is_filed_beside_a_file_is_still_watched(world: World) -> None:
    filer = world.filer()
    watch = ProcessedWatch(world.processed, world.inbox, clock=lambda: 0.0)
    for path in ("study", "study/a.dcm"):
        world.drop(path, seed=path)
        identity = Identity.of((world.inbox / NORTH / path).stat())
        file = WaitingFile(NORTH, path, identity, Place(0.0, 0), 0.0)
        watch.add(file, filer.file(file, Settlement("stored")))
    (grown,) = world.processed.rglob("study (2)/a.dcm")
    with grown.open("ab") as more:
        more.write(b"the other half")
    watch.look({NORTH})
    assert [path.name for path in (world.inbox / NORTH).rglob("*.dcm")] == ["a.dcm"]
    assert not grown.exists()
