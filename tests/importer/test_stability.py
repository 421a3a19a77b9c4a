"""When a file is finished."""

from __future__ import annotations

import math

import pytest

from importer.files.tree import LEAVING, Identity
from importer.inbox.look import EmptyFolders
from importer.inbox.stability import StabilityTracker
from importer.work import Place, WaitingFile
from support.importing import NORTH

FIRST, LONGER, REPLACED = Identity(1, 10, 100, 5), Identity(1, 10, 200, 5), Identity(1, 11, 100, 5)


def look(tracker: StabilityTracker, now: float, **files: Identity) -> list[str]:
    """One pass over a folder with these files; the ones that became stable."""
    tracker.begin(now)
    for path, identity in files.items():
        if not tracker.in_hand(path):
            tracker.see(path, identity, now, identity.mtime_ns)
    tracker.finish()
    return taken(tracker, now)


def handed_out(path: str, identity: Identity, seen: float = 0) -> WaitingFile:
    """A file as whoever has it gives it back."""
    return WaitingFile(NORTH, path, identity, Place(seen, identity.mtime_ns), 0.0)


def taken(tracker: StabilityTracker, now: float) -> list[str]:
    """What is handed out, without another pass."""
    return [ripe.path for ripe in tracker.take(now)]


def test_a_file_is_stable_when_it_did_not_change_for_the_cooldown() -> None:
    tracker = StabilityTracker(60)
    assert look(tracker, 0, a=FIRST) == []
    assert look(tracker, 59.9, a=FIRST) == []
    assert look(tracker, 60, a=FIRST) == ["a"]


def test_a_stable_file_is_handed_out_without_another_pass() -> None:
    tracker = StabilityTracker(60)
    look(tracker, 0, a=FIRST)
    assert taken(tracker, 59.9) == []
    assert taken(tracker, 60) == ["a"]
    assert taken(tracker, 61) == []


def test_a_file_that_the_last_pass_could_not_see_is_not_handed_out() -> None:
    tracker = StabilityTracker(60)
    look(tracker, 0, a=FIRST)
    tracker.begin(30)
    tracker.finish(lambda _path: True)
    assert tracker.next_ripe() == math.inf
    assert taken(tracker, 60) == []
    assert look(tracker, 61, a=FIRST) == ["a"]


def test_without_a_cooldown_a_file_is_stable_when_two_looks_find_it_the_same() -> None:
    tracker = StabilityTracker(0)
    assert look(tracker, 0, a=FIRST) == []
    assert look(tracker, 1, a=LONGER) == []
    assert look(tracker, 2, a=LONGER) == ["a"]


def test_every_change_starts_the_cooldown_anew() -> None:
    for change in (LONGER, REPLACED, FIRST._replace(mtime_ns=6), FIRST._replace(device=2)):
        tracker = StabilityTracker(60)
        look(tracker, 0, a=FIRST)
        assert look(tracker, 59, a=change) == []
        assert look(tracker, 61, a=change) == []
        assert look(tracker, 119, a=change) == ["a"]


def test_a_file_with_an_old_time_of_modification_is_not_stable_at_first_sight() -> None:
    tracker = StabilityTracker(60)
    assert look(tracker, 1_000_000, a=FIRST._replace(mtime_ns=0)) == []


def test_a_stable_file_is_handed_out_once() -> None:
    tracker = StabilityTracker(60)
    look(tracker, 0, a=FIRST)
    assert look(tracker, 60, a=FIRST) == ["a"]
    assert look(tracker, 120, a=FIRST) == []


def test_a_released_file_that_is_still_there_is_watched_anew() -> None:
    tracker = StabilityTracker(60)
    look(tracker, 0, a=FIRST)
    look(tracker, 60, a=FIRST)
    tracker.release(handed_out("a", FIRST))
    assert look(tracker, 70, a=LONGER) == []
    assert look(tracker, 130, a=LONGER) == ["a"]


def test_a_release_of_an_earlier_sighting_does_not_concern_the_later_one() -> None:
    tracker = StabilityTracker(60)
    look(tracker, 0, a=FIRST)
    look(tracker, 60, a=FIRST)
    look(tracker, 61)
    look(tracker, 62, a=REPLACED)
    assert look(tracker, 122, a=REPLACED) == ["a"]
    tracker.release(handed_out("a", FIRST))
    assert look(tracker, 200, a=REPLACED) == []


def test_the_order_is_the_one_first_seen() -> None:
    tracker = StabilityTracker(10)
    others = {"b": REPLACED, "a": REPLACED._replace(inode=12)}
    look(tracker, 0, z=FIRST)
    look(tracker, 1, z=FIRST, **others)
    assert look(tracker, 11, **others, z=FIRST) == ["z", "a", "b"]


@pytest.mark.parametrize("missed", [False, True], ids=["at once", "missed by a pass"])
def test_a_renamed_file_keeps_its_place(*, missed: bool) -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, older=FIRST)
    look(tracker, 1, older=FIRST, newer=REPLACED)
    if missed:
        look(tracker, 2, newer=REPLACED)
    look(tracker, 3, newer=REPLACED, renamed=FIRST)
    assert look(tracker, 13, newer=REPLACED, renamed=FIRST) == ["renamed", "newer"]


def test_a_renamed_file_that_was_missed_by_whoever_opened_it_keeps_its_place() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, older=FIRST)
    assert look(tracker, 10, older=FIRST, newer=REPLACED) == ["older"]
    tracker.release(handed_out("older", FIRST), lost=True)
    look(tracker, 11, newer=REPLACED, renamed=FIRST)
    assert look(tracker, 21, newer=REPLACED, renamed=FIRST) == ["renamed", "newer"]


def test_a_file_that_is_moved_to_where_the_pass_has_not_been_yet_keeps_its_place() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, older=FIRST)
    look(tracker, 1, older=FIRST, newer=REPLACED)
    look(tracker, 2, older=FIRST, newer=REPLACED, renamed=FIRST)
    assert look(tracker, 12, newer=REPLACED, renamed=FIRST) == ["renamed", "newer"]


@pytest.mark.parametrize(
    ("then", "order"),
    [(LONGER, ["b", "a"]), (FIRST._replace(ctime_ns=9), ["a", "b"])],
    ids=["other contents", "another mode"],
)
def test_other_contents_under_a_name_are_a_newer_version(then: Identity, order: list[str]) -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, a=FIRST)
    look(tracker, 1, a=FIRST, b=REPLACED)
    look(tracker, 2, a=then, b=REPLACED)
    assert look(tracker, 12, a=then, b=REPLACED) == order


def test_files_that_swap_their_names_keep_their_places() -> None:
    tracker = StabilityTracker(10)
    other, older, newer = FIRST, FIRST._replace(inode=11), FIRST._replace(inode=12)
    look(tracker, 0, a=other)
    look(tracker, 1, a=other, c=older)
    look(tracker, 2, a=other, c=older, e=newer)
    assert look(tracker, 12, a=other, c=older, e=newer) == ["a", "c", "e"]
    # What is handed out is not looked at: each is found to be another one when it is opened.
    look(tracker, 13, a=older, c=other, e=newer)
    tracker.release(handed_out("c", older, 1), lost=True)
    look(tracker, 14, a=older, c=other, e=newer)
    tracker.release(handed_out("e", newer, 2), lost=True)
    tracker.release(handed_out("a", other), lost=True)
    look(tracker, 15, a=older, c=other, e=newer)
    assert look(tracker, 25, a=older, c=other, e=newer) == ["c", "a", "e"]


def test_files_that_swap_their_names_before_they_are_stable_keep_their_places() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, a=FIRST)
    look(tracker, 1, a=FIRST, b=REPLACED)
    look(tracker, 2, a=REPLACED, b=FIRST)
    assert look(tracker, 12, a=REPLACED, b=FIRST) == ["b", "a"]


def test_what_was_seen_on_its_way_out_has_no_place_when_it_is_put_back() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, a=FIRST)
    look(tracker, 10, a=FIRST, b=REPLACED)
    look(tracker, 11, **{f"{LEAVING}1": FIRST}, b=REPLACED)
    tracker.release(handed_out("a", FIRST))
    look(tracker, 12, b=REPLACED)
    look(tracker, 13, a=FIRST, b=REPLACED)
    assert look(tracker, 23, a=FIRST, b=REPLACED) == ["b", "a"]


def test_what_is_put_back_after_it_was_filed_is_brought_anew() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, a=FIRST)
    look(tracker, 10, a=FIRST, b=REPLACED)
    look(tracker, 11, b=REPLACED)
    tracker.release(handed_out("a", FIRST))
    look(tracker, 12, a=FIRST, b=REPLACED)
    assert look(tracker, 22, a=FIRST, b=REPLACED) == ["b", "a"]


def test_files_first_seen_together_become_stable_together() -> None:
    tracker = StabilityTracker(10)
    tracker.begin(0)
    tracker.see("newer/1.dcm", FIRST, 0.1, 2)
    tracker.see("older/1.dcm", REPLACED, 0.9, 1)
    tracker.finish()
    assert tracker.next_ripe() == 10.9
    for now, stable in ((10.5, []), (10.9, ["older/1.dcm", "newer/1.dcm"])):
        tracker.begin(now)
        tracker.see("newer/1.dcm", FIRST, now, 2)
        tracker.see("older/1.dcm", REPLACED, now, 1)
        tracker.finish()
        assert taken(tracker, now) == stable


def test_files_first_seen_together_go_by_the_time_that_they_came() -> None:
    tracker = StabilityTracker(10)
    older, newer = FIRST._replace(mtime_ns=1), FIRST._replace(mtime_ns=2)
    look(tracker, 0, a=newer, b=older)
    assert look(tracker, 10, a=newer, b=older) == ["b", "a"]


def test_what_counts_is_when_the_file_was_seen_not_how_long_a_pass_took() -> None:
    tracker = StabilityTracker(10)
    tracker.begin(0)
    tracker.see("a", FIRST, 5)
    tracker.finish()
    assert look(tracker, 14, a=FIRST) == []
    assert look(tracker, 15, a=FIRST) == ["a"]


def test_a_file_that_is_gone_is_forgotten_but_not_one_that_could_not_be_seen() -> None:
    tracker = StabilityTracker(10)
    look(tracker, 0, a=FIRST, b=FIRST)
    tracker.begin(5)
    tracker.finish(lambda path: path == "b")
    assert len(tracker) == 1
    assert tracker.oldest() == 0
    assert look(tracker, 10, b=FIRST) == ["b"]


def test_it_tells_when_the_next_file_becomes_stable() -> None:
    tracker = StabilityTracker(10)
    assert tracker.next_ripe() == math.inf
    look(tracker, 0, a=FIRST)
    look(tracker, 3, a=FIRST, b=FIRST)
    assert tracker.next_ripe() == 10
    look(tracker, 10, a=FIRST, b=FIRST)
    assert tracker.next_ripe() == 13


def seen(folders: EmptyFolders, now: float, mtime_ns: int = 1, *, empty: bool) -> list[str]:
    folders.see("study/", mtime_ns, now, empty=empty)
    return folders.finish(now)


def test_an_emptied_folder_goes_after_the_cooldown() -> None:
    folders = EmptyFolders(60)
    assert seen(folders, 0, empty=False) == []
    assert seen(folders, 1, 2, empty=True) == []
    assert seen(folders, 60, 2, empty=True) == []
    assert seen(folders, 61, 2, empty=True) == ["study/"]


def test_a_folder_in_which_something_came_and_went_is_given_the_cooldown_again() -> None:
    folders = EmptyFolders(60)
    seen(folders, 0, empty=False)
    seen(folders, 1, 2, empty=True)
    assert seen(folders, 61, 3, empty=True) == []
    assert seen(folders, 121, 3, empty=True) == ["study/"]


def test_a_folder_that_was_made_beforehand_is_left_to_its_maker_for_an_hour() -> None:
    folders = EmptyFolders(60)
    assert seen(folders, 0, empty=True) == []
    assert seen(folders, 3599, empty=True) == []
    assert seen(folders, 3600, empty=True) == ["study/"]
