"""Disks in trouble, as far as they need not be mounted; `tests/chaos/test_disks.py` has real ones."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from importer.files import filing
from importer.files.filing import free_bytes
from importer.files.tree import Identity, is_mounted
from importer.metrics import ImporterMetrics
from importer.reading.holding import Holding
from importer.work import Place, WaitingFile
from support.importing import NORTH, SOUTH, metric, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from support.importing import World


def test_bytes_are_no_room_where_no_further_file_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    told: dict[str, Any] = {name: getattr(real, name) for name in dir(real) if name.startswith("f_")}

    def room(**changed: int) -> int | None:
        values = told | changed
        fields = [values[name] for name in _FIELDS]
        monkeypatch.setattr(filing.os, "fstatvfs", lambda _fd: os.statvfs_result(fields))
        return free_bytes(0)

    assert room(f_files=1000, f_favail=500) == real.f_bavail * real.f_frsize
    assert room(f_files=1000, f_favail=0) == 0
    assert room(f_files=0, f_favail=0) == real.f_bavail * real.f_frsize


_FIELDS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
_FIELDS += ("f_flag", "f_namemax")


def test_a_tree_that_is_mounted_no_longer_is_not_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be filed below the bare mount point is out of sight when the share is back."""
    mounted = True
    monkeypatch.setattr(
        filing, "is_mounted", lambda place: (place == world.processed and mounted) or is_mounted(place)
    )
    with world.running_fast() as importer:
        dropped = {"a.dcm": world.drop("a.dcm")}
        wait_until(lambda: world.done() == dropped)
        share = world.processed.rename(world.data / "share")
        world.processed.mkdir()
        mounted = False
        dropped["b.dcm"] = world.drop("b.dcm")
        labels = {"clinic": NORTH, "reason": "target-gone"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        assert list(world.processed.iterdir()) == []
        assert len(world.server.stored) == 1
        shutil.rmtree(world.processed)
        share.rename(world.processed)
        mounted = True
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 0)


def test_a_share_of_one_clinic_that_is_gone_is_no_empty_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, mounted = world.inbox / NORTH, True
    monkeypatch.setattr(filing, "is_mounted", lambda place: place == inbox and mounted)
    with world.running_fast() as importer:
        wait_until(lambda: importer.full_looks)
        mounted = False
        stray = world.drop("a.dcm")
        wait_until(lambda: metric(importer, "importer_inbox_up") == 0)
        world.drop("b.dcm", clinic=SOUTH)
        wait_until(lambda: world.done(SOUTH))
        assert world.waiting() == {"a.dcm": stray}
        mounted = True
        wait_until(lambda: metric(importer, "importer_inbox_up") == 1)
        wait_until(lambda: world.done() == {"a.dcm": stray})


def test_the_first_file_that_waits_for_a_reason_is_told_and_those_that_follow_are_not() -> None:
    holding = Holding(ImporterMetrics())
    one, other, souths = (
        WaitingFile(clinic, "a.dcm", Identity(1, 1, 1, 1), Place(0.0, 0), 0.0)
        for clinic in (NORTH, NORTH, SOUTH)
    )
    assert holding.note(one, blocked="unreadable")
    assert not holding.note(one, blocked="unreadable")
    assert not holding.note(other, blocked="unreadable")
    assert holding.note(souths, blocked="unreadable")
    assert holding.note(other, blocked="not-movable")
    assert holding.note(one, stuck=True)
    assert not holding.note(one, stuck=True)
    for file in (one, other):
        assert not holding.note(file)
    assert holding.note(other, blocked="unreadable")
