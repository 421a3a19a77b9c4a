"""A clinic's own mistakes, and those of two clinics with one study: nobody is kept waiting for ever."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from importer.daemon import local_now
from importer.files.filing import Filer
from support.corpus import sample_uid
from support.importing import NORTH, SOUTH, metric, wait_until
from support.stow_server import Answers, Refuses, Sent

if TYPE_CHECKING:
    from importer.work import Settlement, WaitingFile
    from pacs.ids import ClinicId
    from support.importing import World

STUDY = sample_uid("a", "study")


class NotedFiler(Filer):
    """The real one; notes in which order files were filed: two may have one time by their file system."""

    filed: tuple[str, ...] = ()

    def file(self, file: WaitingFile, settlement: Settlement) -> str:
        placed = super().file(file, settlement)
        self.filed += (file.path,)
        return placed


@pytest.mark.long
@pytest.mark.parametrize(
    ("clinic", "patient"),
    [pytest.param(SOUTH, "latin", id="another-clinic"), pytest.param(NORTH, "kazakh", id="another-patient")],
)
def test_who_waits_for_a_reservation_of_which_all_files_fail_gets_the_study(
    world: World, clinic: ClinicId, patient: str
) -> None:
    """The second file is in the importer's hand already when the first, which reserved the study, fails."""
    series = sample_uid("a", "series", "CT")
    first, go_on = sample_uid("a", "instance", "CT", series, 1), threading.Event()

    def refuse_the_first(sent: Sent) -> Refuses | None:
        if first not in sent.uids:
            return None
        assert go_on.wait(20)
        return Refuses(0xC000, frozenset({first}))

    world.server.rule = refuse_the_first
    world.drop("wrong/1.dcm", seed="a", instance_number=1)
    with world.running() as importer:
        wait_until(lambda: world.server.requests)
        content = world.drop("right/2.dcm", clinic=clinic, seed="a", instance_number=2, patient=patient)
        blocked = {"clinic": clinic, "reason": "waiting-for-reservation"}
        wait_until(lambda: metric(importer, "importer_blocked_files", **blocked) == 1)
        go_on.set()
        wait_until(lambda: world.done(clinic) == {"right/2.dcm": content})
        wait_until(lambda: (world.study(STUDY) or {}).get("state") == "confirmed")
    assert world.reasons() == {"wrong/1.dcm": "cannot-understand"}
    assert (world.study(STUDY) or {})["clinic_id"] == clinic
    assert world.owned_series() == {series: clinic}


def test_of_two_images_of_one_uid_in_a_folder_the_one_filed_last_is_in_the_archive(world: World) -> None:
    one = sample_uid("the one")
    dropped = {}
    for name in ("1.dcm", "2.dcm"):
        content = world.drop(f"study/{name}", seed="a", sop_instance_uid=one, description=name)
        dropped[f"study/{name}"] = content[:-8] + name.encode().ljust(8)
        world.drop(f"study/{name}", dropped[f"study/{name}"])
    filer = NotedFiler(world.inbox, world.processed, world.failed, now=local_now)
    with world.running(filer=filer):
        wait_until(lambda: world.done() == dropped)
    (stored,) = world.server.stored.values()
    assert stored.content[-8:] == dropped[filer.filed[-1]][-8:]
    assert world.server.times_stored == {one: 2}
    assert world.server.overlaps == 0


def test_a_file_on_which_the_archive_is_stuck_holds_up_no_other_clinics_image_of_its_uid(
    world: World,
) -> None:
    world.server.rule = refusing_large_requests
    world.drop("hostile.dcm", seed="a", sop_instance_uid=sample_uid("the one"), size=64)
    with world.running_fast():
        wait_until(lambda: world.server.requests)
        content = world.drop("image.dcm", clinic=SOUTH, seed="b", sop_instance_uid=sample_uid("the one"))
        wait_until(lambda: world.done(SOUTH) == {"image.dcm": content})
        assert set(world.waiting()) == {"hostile.dcm"}


def refusing_large_requests(sent: Sent) -> Answers | None:
    """An archive that breaks on one file, which is larger than the others."""
    return Answers(500) if sent.size > 6000 else None


@pytest.mark.long
def test_a_corrected_image_goes_before_one_on_which_the_archive_is_stuck(world: World) -> None:
    one = sample_uid("the one")
    world.server.rule = refusing_large_requests
    older = world.drop("old.dcm", seed="a", sop_instance_uid=one, size=64)
    filer = NotedFiler(world.inbox, world.processed, world.failed, now=local_now)
    with world.running_fast(filer=filer) as importer:
        newer: dict[str, bytes] = {}
        for number in count():
            if number == 10:
                newer["new.dcm"] = world.drop("new.dcm", seed="a", sop_instance_uid=one)
            world.drop(f"{number}.dcm", clinic=SOUTH, seed="b", instance_number=number)
            wait_until(lambda number=number: len(world.done(SOUTH)) == number + 1)
            if world.done() and world.done() == newer:
                break
        # By then the archive would take both.
        world.server.rule = lambda _sent: None
        wait_until(lambda: not importer.in_hand)
        assert world.reasons() == {"old.dcm": "superseded"}
        assert world.files(world.failed)["old.dcm"] == older
        assert filer.filed.index("old.dcm") < filer.filed.index("new.dcm"), "or a crash could bring it back"
        assert world.server.stored[one].content[-8:] == newer["new.dcm"][-8:]
        assert metric(importer, "importer_stuck_files", clinic=NORTH) == 0
    assert world.server.times_stored[one] == 1
