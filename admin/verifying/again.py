"""Another look at what differs, before it is called an alarm: a newer file may have come, or be on its way.

A newer file of the same instance is stored first and filed then, by this clinic or by the one that the
study has gone to. So the inboxes are looked through before processed: what moves meanwhile is seen in
one of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from admin.processed import clinic_folders, days, places
from admin.verifying.opened import key_of
from admin.verifying.outcome import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from admin.processed import Place
    from admin.verifying.judging import Judge

    Found = dict[bytes, list[Place]]

_ROUNDS = 2
"""What is stored and filed between the look at the folders and the question to the archive, the next sees."""


class Trees:
    """Inbox and processed, each with the judge of its files."""

    def __init__(self, inbox: Path, processed: Path, waiting: Judge, filed: Judge) -> None:
        self._inbox, self._processed = inbox, processed
        self.waiting, self.filed = waiting, filed

    def look(self, keys: Iterable[bytes], since: str) -> tuple[Found, Found]:
        """The files of these instances that wait in any inbox, and those filed since a day."""
        waiting: Found = {key: [] for key in keys}
        filed: Found = {key: [] for key in waiting}
        for clinic_id in clinic_folders(self._inbox):
            _collect(waiting, self.waiting, places(self._inbox, clinic_id, ""))
        for clinic_id in clinic_folders(self._processed):
            for day in days(self._processed, clinic_id, since):
                _collect(filed, self.filed, places(self._processed, clinic_id, day))
        return waiting, filed


def _collect(into: Found, judge: Judge, found: Iterable[Place]) -> None:
    for place in found:
        file = judge.read(place)
        if isinstance(file, Verdict):
            continue
        with file:
            into.get(key_of(file.header), []).append(place)


def look_again(doubts: Mapping[Place, tuple[bytes, Verdict]], trees: Trees) -> Iterator[Verdict]:
    """What is to be said of these files after all.

    Raises:
        ArchiveUnavailableError: the archive does not answer.
        OSError: a folder cannot be read.
    """
    left = dict(doubts)
    for _ in range(_ROUNDS):
        if not left:
            return
        waiting, filed = trees.look({key for key, _ in left.values()}, min(place.day for place in left))
        for place, (key, before) in list(left.items()):
            verdict = trees.filed.judge(place)
            if verdict.outcome is Outcome.DIFFERENT:
                detail = _newer(place, waiting[key], filed[key], trees)
                if not detail:
                    left[place] = key, replace(before, detail=verdict.detail)
                    continue
                verdict = replace(verdict, outcome=Outcome.SUPERSEDED, detail=detail)
            del left[place]
            yield verdict
    yield from (verdict for _, verdict in left.values())


def _newer(place: Place, waiting: list[Place], filed: list[Place], trees: Trees) -> str:
    """Which file takes its place; empty when none does."""
    newest = max(filed, key=lambda other: other.order, default=place)
    if newest.order > place.order:
        return f"by {newest}"
    for other in waiting:
        if trees.waiting.judge(other).outcome is Outcome.VERIFIED:
            return "by a file that is just being filed"
    return ""
