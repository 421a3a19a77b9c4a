"""Where files end, when the folders or the clinic's staff get in the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from importer.daemon import local_now
from importer.files.failed import dismiss, failed_files, put_back, remove_orphan_reports, stored_since
from importer.files.moving import GoneError, StrangerError
from importer.files.report import MalformedReportError, Report
from importer.files.tree import LEAVING
from pacs.archive.dicomweb import DicomWebArchive
from support.corpus import instance_bytes, sample_uid
from support.importing import NORTH, SOUTH, metric, wait_until
from support.stow_server import Answers, Fault, Sent

if TYPE_CHECKING:
    from support.importing import World


def test_a_file_replaced_while_it_is_sent_is_imported_anew(world: World) -> None:
    """The first one is in the archive for a moment; what the clinic holds to be its file wins."""
    replacement = instance_bytes(seed="a", size=4, description="the corrected one")
    place = world.inbox / NORTH / "a.dcm"

    def rule(sent: Sent) -> Fault | None:
        if sent.number == 0:
            other = place.with_name(".new")
            other.write_bytes(replacement)
            other.rename(place)
        return None

    world.server.rule = rule
    world.drop("a.dcm", seed="a")
    with world.running():
        wait_until(world.done)
    assert world.done() == {"a.dcm": replacement}
    assert len(world.server.requests) == 2
    (stored,) = world.server.stored.values()
    assert b"the corrected one" in stored.content


def test_a_file_written_to_while_it_is_sent_is_imported_anew(world: World) -> None:
    place = world.inbox / NORTH / "a.dcm"

    def rule(sent: Sent) -> Fault | None:
        if sent.number == 0:
            with place.open("r+b") as writer:
                writer.seek(-1, os.SEEK_END)
                writer.write(b"\x7f")
            os.utime(place, ns=(1, 1))
        return None

    world.server.rule = rule
    content = world.drop("a.dcm", seed="a")
    with world.running():
        wait_until(world.done)
    assert world.done() == {"a.dcm": content[:-1] + b"\x7f"}
    assert len(world.server.requests) == 2


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_request_and_harms_no_other(world: World) -> None:
    place = world.inbox / NORTH / "large.dcm"
    large = instance_bytes(seed="large", size=1400)

    class Truncating:
        def __call__(self, _sent: Sent) -> Fault | None:
            return None

        def peek(self, _length: int) -> Fault | None:
            if place.exists() and place.stat().st_size == len(large):
                os.truncate(place, 1000)
            return None

    world.server.rule = Truncating()
    world.drop("large.dcm", large)
    small = world.drop("small.dcm", seed="small")
    with world.running():
        wait_until(world.failures)
        wait_until(world.done)
    assert world.done() == {"small.dcm": small}
    assert world.reasons() == {"large.dcm": "truncated"}


def test_a_file_taken_away_by_the_clinic_is_forgotten(world: World) -> None:
    healed = threading.Event()
    world.server.rule = lambda _sent: None if healed.is_set() else Answers(503)
    world.drop("a.dcm")
    world.drop("b.dcm")
    with world.running() as importer:
        wait_until(lambda: metric(importer, "importer_archive_up") == 0)
        (world.inbox / NORTH / "a.dcm").unlink()
        healed.set()
        wait_until(lambda: set(world.done()) == {"b.dcm"})
        wait_until(lambda: importer.is_drained)


def test_a_folder_swapped_for_a_link_while_files_wait_leads_nowhere(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.dcm").write_bytes(instance_bytes(seed="other clinic's"))
    healed = threading.Event()
    world.server.rule = lambda _sent: None if healed.is_set() else Answers(503)
    world.drop("study/a.dcm", seed="mine")
    with world.running() as importer:
        wait_until(lambda: metric(importer, "importer_archive_up") == 0)
        (world.inbox / NORTH / "study").rename(tmp_path / "elsewhere")
        (world.inbox / NORTH / "study").symlink_to(outside)
        healed.set()
        wait_until(lambda: importer.is_drained)
    assert world.server.stored == {}
    assert (outside / "a.dcm").exists()


def test_files_wait_while_there_is_no_room(world: World) -> None:
    free = [0]
    filer = world.filer(free=lambda _folder: free[0])
    dropped = {"a.dcm": world.drop("a.dcm")}
    with world.running_fast(filer=filer) as importer:
        labels = {"clinic": NORTH, "reason": "no-space"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        assert world.server.requests == []
        free[0] = 1 << 40
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 0)


def test_no_room_for_a_deflated_file_is_told_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, world.running_fast() as importer:
        patched.setattr(tempfile, "TemporaryFile", full)
        dropped = {"a.dcm": world.drop("a.dcm", transfer_syntax=DeflatedExplicitVRLittleEndian)}
        labels = {"clinic": NORTH, "reason": "no-space"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        patched.undo()
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 0)


def test_files_wait_while_the_target_cannot_be_written(world: World) -> None:
    world.processed.parent.mkdir(exist_ok=True)
    world.processed.mkdir()
    (world.processed / NORTH).write_bytes(b"a file in the place of the folder")
    dropped = {"a.dcm": world.drop("a.dcm")}
    world.drop("b.dcm", clinic=SOUTH)
    with world.running_fast() as importer:
        labels = {"clinic": NORTH, "reason": "target-not-writable"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        wait_until(lambda: world.done(SOUTH))
        assert len(world.server.stored) == 1
        (world.processed / NORTH).unlink()
        wait_until(lambda: world.done() == dropped)


def test_a_file_stored_but_not_movable_is_moved_later_and_not_sent_again(world: World) -> None:
    day = world.processed / NORTH / f"{local_now():%Y-%m-%d}"
    day.parent.mkdir(parents=True)
    day.write_bytes(b"in the way")
    dropped = {"a.dcm": world.drop("a.dcm")}
    with world.running_fast() as importer:
        labels = {"clinic": NORTH, "reason": "not-movable"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 1)
        day.unlink()
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: metric(importer, "importer_blocked_files", **labels) == 0)
    assert len(world.server.requests) == 1


@pytest.mark.parametrize("tree", ["processed_path", "failed_path", "inbox_path"])
def test_trees_on_different_file_systems(world: World, tree: str) -> None:
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == world.data.stat().st_dev:
        pytest.skip("there is no second file system here")
    other = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        world.options[tree] = other
        world.add_clinic(NORTH)
        good = world.drop("study/good.dcm", seed="good")
        bad = world.drop("study/bad.dcm", b"no image")
        with world.running():
            wait_until(lambda: world.done() and world.failures())
            wait_until(lambda: not world.waiting())
            assert world.done() == {"study/good.dcm": good}
            assert world.files(world.failed)["study/bad.dcm"] == bad
            assert not world.failures()["study/bad.dcm"].written_since()
    finally:
        shutil.rmtree(other)


def test_a_failed_file_whose_writer_went_on_returns_to_the_inbox(world: World) -> None:
    content = instance_bytes(seed="slow")
    place = world.inbox / NORTH / "study" / "slow.dcm"
    place.parent.mkdir()
    with place.open("wb") as writer:
        writer.write(content[:700])
        writer.flush()
        with world.running_fast():
            wait_until(lambda: world.reasons() == {"study/slow.dcm": "truncated"})
            writer.write(content[700:])
            writer.close()
            wait_until(lambda: world.done() == {"study/slow.dcm": content})
            # Not Path.rglob: it raises an error when a folder is removed just then.
            wait_until(
                lambda: (
                    not any(name.endswith(".json") for _, _, names in os.walk(world.failed) for name in names)
                )
            )
    assert world.failures() == {}


def test_a_failed_file_that_is_written_to_does_not_replace_what_was_stored_since(world: World) -> None:
    world.drop("old.dcm", instance_bytes(seed="a")[:-10])
    with world.running() as importer:
        wait_until(lambda: world.reasons() == {"old.dcm": "truncated"})
        corrected = world.drop("new.dcm", instance_bytes(seed="a", description="corrected"))
        wait_until(lambda: world.done() == {"new.dcm": corrected})
        world.server.search_rule = lambda path: Answers(503) if "SOPInstanceUID=" in path else None
        (failed,) = (world.failed / NORTH).rglob("old.dcm")
        failed.write_bytes(instance_bytes(seed="a"))
        wait_until(lambda: asked_of_instances(world) > 2, what="an archive that is away is asked again")
        world.server.search_rule = lambda _path: None
        watch = importer._scanner._clinics[NORTH].failed
        wait_until(lambda: watch._staying)
        asked, looked = asked_of_instances(world), importer.full_looks
        wait_until(lambda: importer.full_looks > looked + 3)
        assert asked_of_instances(world) == asked, "asked again although nothing changed"
        assert metric(importer, "importer_failed_files", clinic=NORTH) == 1
    assert world.waiting() == {}
    assert set(world.failures()) == {"old.dcm"}


def asked_of_instances(world: World) -> int:
    return sum("SOPInstanceUID=" in path for path in world.server.searches)


def test_a_failed_file_keeps_its_report_and_is_left_alone(world: World) -> None:
    world.drop("a.dcm", b"no image")
    with world.running() as importer:
        wait_until(world.failures)
        looked = importer.full_looks
        wait_until(lambda: importer.full_looks > looked + 3)
        assert metric(importer, "importer_failed_files", clinic=NORTH) == 1
    assert world.waiting() == {}
    (report,) = (world.failed / NORTH).rglob("*.error.json")
    told = json.loads(report.read_bytes())
    assert told["reason"] == "not-dicom"
    assert told["text"]
    assert told["failed_at"]


def test_two_failed_files_that_want_one_name_keep_their_own_reports(world: World) -> None:
    world.drop("a.dcm", b"first")
    with world.running():
        wait_until(lambda: len(world.failures()) == 1)
        world.drop("a.dcm", b"second, longer")
        wait_until(lambda: len(world.failures()) == 2)
    sizes = {path: file.report.size if file.report else None for path, file in world.failures().items()}
    assert sizes == {"a.dcm": 5, "a (2).dcm": 14}


def test_a_file_named_like_a_report_is_a_failed_file_with_a_report(world: World) -> None:
    world.drop("a.dcm", b"no image")
    world.drop("a.dcm.error.json", b"{}")
    world.drop("y" * 250, b"no image either")
    with world.running():
        wait_until(lambda: len(world.failures()) == 3)
    assert set(world.reasons().values()) == {"not-dicom"}
    assert {"a.dcm", "a.dcm.error (2).json"} < set(world.failures())


def test_a_file_that_is_no_report_of_ours_is_not_replaced_by_one(world: World) -> None:
    day = world.failed / NORTH / f"{local_now():%Y-%m-%d}"
    day.mkdir(parents=True)
    (day / "a.dcm.error.json").write_bytes(b"somebody's notes")
    world.drop("a.dcm", b"no image")
    with world.running():
        wait_until(world.failures)
    assert world.reasons() == {"a (2).dcm": "not-dicom"}
    assert (day / "a.dcm.error.json").read_bytes() == b"somebody's notes"


def test_a_report_that_a_crash_left_is_used_again(world: World) -> None:
    """Written, then the machine died before the file was moved: the file fails again."""
    day = world.failed / NORTH / f"{local_now():%Y-%m-%d}"
    day.mkdir(parents=True)
    left = Report("truncated", "Before the crash.", local_now(), 1, 1)
    (day / "a.dcm.error.json").write_bytes(left.to_json())
    world.drop("a.dcm", b"no image")
    with world.running():
        wait_until(world.failures)
    assert world.reasons() == {"a.dcm": "not-dicom"}
    assert len(list(day.iterdir())) == 2


def test_reports_without_a_file_are_removed_and_nothing_else(world: World) -> None:
    day = world.failed / NORTH / "2026-01-02" / "study"
    day.mkdir(parents=True)
    left = Report("truncated", "Before the crash.", local_now(), 1, 1).to_json()
    (day / "gone.dcm.error.json").write_bytes(left)
    (day / "foreign.error.json").write_bytes(b"{}")
    (day / "there.dcm.error.json").write_bytes(left)
    (day / "there.dcm").write_bytes(b"x")
    remove_orphan_reports(world.failed, NORTH, local_now())
    assert len(list(day.iterdir())) == 4, "it may be about to get its file"
    remove_orphan_reports(world.failed, NORTH, local_now() + timedelta(minutes=2))
    assert {path.name for path in day.iterdir()} == {
        "foreign.error.json",
        "there.dcm.error.json",
        "there.dcm",
    }


def test_a_file_on_its_last_step_out_when_the_importer_died_is_imported_again(world: World) -> None:
    content = instance_bytes(seed="leaving")
    (world.inbox / NORTH / f"{LEAVING}0123").write_bytes(content)
    with world.running():
        wait_until(lambda: world.done() == {"0123": content})


def failed_file(world: World, path: str = "study/a.dcm", content: bytes = b"no image") -> None:
    world.drop(path, content)
    with world.running():
        wait_until(world.failures)


def test_a_failed_file_is_put_back_and_imported_again(world: World) -> None:
    failed_file(world)
    (file,) = failed_files(world.failed, NORTH)
    assert put_back(world.failed, world.inbox, file) == "study/a.dcm"
    assert world.waiting() == {"study/a.dcm": b"no image"}
    assert not list((world.failed / NORTH).rglob("*dcm*"))
    assert not (world.failed / NORTH / file.day).exists()
    with pytest.raises((GoneError, FileNotFoundError)):
        put_back(world.failed, world.inbox, file)


def test_a_failed_file_put_back_replaces_nothing(world: World) -> None:
    failed_file(world)
    (file,) = failed_files(world.failed, NORTH)
    world.drop("study/a.dcm", b"another")
    assert put_back(world.failed, world.inbox, file) == "study/a (2).dcm"
    assert world.waiting() == {"study/a.dcm": b"another", "study/a (2).dcm": b"no image"}


def test_a_failed_file_that_changed_since_it_was_listed_is_not_put_back(world: World) -> None:
    failed_file(world)
    (file,) = failed_files(world.failed, NORTH)
    (world.failed / NORTH / file.day / file.path).write_bytes(b"longer than it was")
    with pytest.raises(StrangerError):
        put_back(world.failed, world.inbox, file)
    assert world.reasons() == {"study/a.dcm": "not-dicom"}


def test_a_dismissed_file_stays_and_is_counted_no_longer(world: World) -> None:
    failed_file(world)
    (file,) = failed_files(world.failed, NORTH)
    dismiss(world.failed, file, local_now())
    (file,) = failed_files(world.failed, NORTH)
    assert file.dismissed
    assert file.report
    assert file.report.reason == "not-dicom"
    with world.running() as importer:
        wait_until(lambda: importer.full_looks)
        assert metric(importer, "importer_failed_files", clinic=NORTH) == 0
    assert world.waiting() == {}


def test_a_lost_report_can_be_dismissed_too(world: World) -> None:
    failed_file(world)
    (file,) = failed_files(world.failed, NORTH)
    (world.failed / NORTH / file.day / f"{file.path}.error.json").write_bytes(b"garbage")
    (file,) = failed_files(world.failed, NORTH)
    assert file.report is None
    assert dismiss(world.failed, file, local_now()).reason == "unknown"


def test_an_instance_stored_since_is_known(world: World) -> None:
    cut = instance_bytes(seed="a", size=4)[:-10]
    failed_file(world, content=cut)
    archive = DicomWebArchive(world.settings())
    (file,) = failed_files(world.failed, NORTH)
    assert file.report
    assert file.report.sop_instance_uid == sample_uid(
        "a", "instance", "CT", sample_uid("a", "series", "CT"), 1
    )
    assert not stored_since(archive, file)
    world.drop("good.dcm", seed="a")
    with world.running():
        wait_until(world.done)
    assert stored_since(archive, file)
    archive.close()


def test_a_folder_with_the_name_of_a_file_that_was_filed_before_gets_another(world: World) -> None:
    first = world.drop("IM1", seed="file")
    with world.running():
        wait_until(lambda: world.done() == {"IM1": first})
        second = world.drop("IM1/IM1", seed="folder")
        wait_until(lambda: world.done() == {"IM1": first, "IM1 (2)/IM1": second})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"reason": "x", "text": "x", "failed_at": "2026-01-01T00:00:00", "size": 1, "mtime_ns": 1}',
        b'{"reason": "X Y", "text": "x", "failed_at": "2026-01-01T00:00:00+00:00", "size": 1, "mtime_ns": 1}',
        b'{"reason": "x", "text": "x", "failed_at": 5, "size": 1, "mtime_ns": 1}',
        b'{"reason": "x", "text": "x", "failed_at": "2026-01-01T00:00:00+00:00", "size": "a", "mtime_ns": 1}',
        b'{"reason": "x", "text": "x", "failed_at": "2026-01-01T00:00:00Z", "size": 1e999, "mtime_ns": 0}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_report_is_none(text: bytes) -> None:
    with pytest.raises(MalformedReportError):
        Report.parse(text)


def test_a_report_reads_back_as_it_was_written() -> None:
    report = Report("truncated", "Ends early.", local_now(), 5, 6, dismissed_at=local_now())
    assert Report.parse(report.to_json()) == report
