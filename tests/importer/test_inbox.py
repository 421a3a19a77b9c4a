"""What is seen in the inbox, and when it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.daemon import local_now
from importer.files.filing import Filer
from importer.files.tree import LEAVING
from importer.inbox import scanner
from importer.inbox.hints import Hints
from support.corpus import instance_bytes
from support.importing import NORTH, SOUTH, metric, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from importer.work import WaitingFile
    from support.importing import World


class NotedFiler(Filer):
    """The real one; notes what is opened."""

    opened: tuple[str, ...] = ()

    def open(self, file: WaitingFile) -> int:
        self.opened += (file.path,)
        return super().open(file)


def test_a_file_written_to_since_it_was_looked_at_is_not_sent_before_it_is_stable_again(world: World) -> None:
    older, newer = (instance_bytes(seed="grows", description=text) for text in ("Head", "Head and neck"))
    filer = NotedFiler(world.inbox, world.processed, world.failed, now=local_now)
    now = 0.0
    options = {"clock": lambda: now, "beat_seconds": 0.02, "cooldown_seconds": 5, "rescan_seconds": 15}
    with (world.inbox / NORTH / "a.dcm").open("wb", buffering=0) as writer:
        writer.write(older)
        with world.running(filer=filer, **options) as importer:
            wait_until(lambda: metric(importer, "importer_waiting_files", clinic=NORTH) == 1)
            # As long as it is not closed this makes no event, and no look is due.
            writer.seek(0)
            writer.write(newer)
            now = 5.0
            wait_until(lambda: filer.opened)
            writer.close()

            def done() -> bool:
                nonlocal now
                now += 0.1
                return bool(world.done())

            wait_until(done)
    assert now > 10
    assert world.done() == {"a.dcm": newer}
    assert len(world.server.requests) == 1


def test_a_full_inbox_is_handed_out_in_two_parts_each_file_once_and_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_FIRST_FILES", 2)
    uids = [f"2.25.{number}" for number in range(1, 8)]
    for uid in uids:
        world.drop(f"{uid}.dcm", seed="full", sop_instance_uid=uid)
    with world.running(upload_workers=1):
        wait_until(lambda: len(world.done()) == len(uids))
    assert [uid for sent in world.server.requests for uid in sent.uids] == uids


def test_a_file_that_comes_or_comes_back_is_told_and_one_that_the_importer_takes_away_is_not(
    tmp_path: Path,
) -> None:
    for clinic in (NORTH, SOUTH):
        (tmp_path / clinic / "study").mkdir(parents=True)
    filed = tmp_path / NORTH / "study" / "a.dcm"
    filed.write_bytes(b"filed")
    told: list[str] = []
    hints = Hints(tmp_path, told.append)
    hints.ensure()
    try:
        leaving = filed.rename(filed.with_name(f"{LEAVING}0123"))
        (tmp_path / SOUTH / "study" / "b.dcm").write_bytes(b"comes")
        wait_until(lambda: told)
        assert set(told) == {SOUTH}
        leaving.rename(filed)
        wait_until(lambda: NORTH in told)
    finally:
        hints.stop()
