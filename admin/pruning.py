"""Deletes from processed what has just been verified, and nothing else unless it is told to.

Of several files of one instance only the last filed can be verified, and its presence is what tells that
the others are superseded: without it they would look like images that the archive has lost. So it stays for
as long as one of them does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from admin.processed import clinic_folders, days, files_below
from admin.verifying.outcome import Outcome, Verdict
from admin.verifying.verifier import side_by_side
from importer.files.tree import exists, folder, identity_of, remove_empty_folders, remove_exactly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from admin.processed import Place
    from admin.verifying.verifier import Verifier
    from admin.verifying.versions import Versions
    from importer.files.tree import Identity
    from pacs.ids import ClinicId

KEPT = "an older version of this image is still in processed; --superseded removes it"


def first_kept_day(today: date, age_days: int) -> str:
    """The first day whose files are not older than so many days; at 0, tomorrow."""
    first = today - timedelta(days=age_days) if age_days else today + timedelta(days=1)
    return first.isoformat()


def count_before(processed: Path, clinic_id: ClinicId, day: str) -> int:
    """How many files of a clinic were filed before a day.

    Raises:
        OSError: a folder cannot be read.
    """
    return sum(
        1
        for each in days(processed, clinic_id)
        if each < day
        for _ in files_below(processed, (clinic_id, each))
    )


@dataclass(frozen=True)
class Order:
    """What is to be deleted.

    Attributes:
        before: the first day whose files stay.
        also: outcomes beside *verified* whose files are deleted, too.
        today: the day whose folders stay, though empty: files are being filed there.
        dry: only say what would be deleted.
    """

    before: str
    also: frozenset[Outcome]
    today: str
    dry: bool = False


class Pruner:
    """Prunes one platform. `files` and `bytes` count what was deleted, by clinic."""

    def __init__(self, processed: Path, verifier: Verifier, versions: Versions, order: Order) -> None:
        self._root, self._verifier, self._versions, self._order = processed, verifier, versions, order
        self._imageless: dict[ClinicId, list[Verdict]] = {}
        self._superseded: set[Place] = set()
        self.files: Counter[ClinicId] = Counter()
        self.bytes: Counter[ClinicId] = Counter()

    def read(self) -> None:
        """Note the versions of every instance, of all clinics: a study may have gone from one to another.

        Raises:
            OSError: a folder cannot be read.
        """
        for clinic_id in clinic_folders(self._root):
            self._imageless[clinic_id] = [
                verdict
                for verdict in self._verifier.read(clinic_id, self._versions)
                if verdict.place.day < self._order.before
            ]

    def clinic(
        self, clinic_id: ClinicId, tell: Callable[[int], None] = lambda _done: None
    ) -> Iterator[Verdict]:
        """Delete what may be deleted of a clinic's old files; the verdicts on those that stay.

        Raises:
            ArchiveUnavailableError: the archive does not answer.
            OSError: a file cannot be deleted.
        """
        last: list[tuple[Place, list[Place]]] = []
        for done, (versions, verdict) in enumerate(self._judged(clinic_id), 1):
            tell(done)
            if verdict.outcome is Outcome.VERIFIED and len(versions) > 1:
                last.append((verdict.place, versions))
            else:
                yield from self._dealt_with(verdict)
        for place, versions in last:
            if any(self._is_there(other) for other in versions if other != place):
                yield Verdict(place, Outcome.SUPERSEDED, KEPT)
            else:
                yield from self._dealt_with(self._verifier.verdict(place))
        for verdict in self._imageless.get(clinic_id, ()):
            yield from self._dealt_with(self._identified(verdict))

    def _judged(self, clinic_id: ClinicId) -> Iterator[tuple[list[Place], Verdict]]:
        """The verdict on each of a clinic's old files, and which files there are of its instance."""

        def given() -> Iterator[tuple[Place, list[Place]]]:
            for key, place in self._versions.of_clinic(clinic_id, self._order.before):
                yield place, self._versions.of(key)

        def judge(each: tuple[Place, list[Place]]) -> tuple[list[Place], Verdict]:
            place, versions = each
            return versions, self._verdict(place, versions)

        return side_by_side(judge, given())

    def _verdict(self, place: Place, versions: list[Place]) -> Verdict:
        last = versions[-1]
        if place == last:
            return self._verifier.verdict(place)
        if Outcome.SUPERSEDED in self._order.also:
            newest = self._verifier.verdict(last)
            if newest.outcome is not Outcome.VERIFIED:
                # Nothing is known of what took its place, which may have to be imported anew.
                return Verdict(place, Outcome.SUPERSEDED, f"by {last}, which is {newest.outcome}")
        return self._verifier.verdict(place, f"by {last}")

    def _identified(self, verdict: Verdict) -> Verdict:
        """The verdict on a file without an image, given anew, with the file that it is on."""
        *above, name = verdict.place.parts
        try:
            with folder(self._root, above) as folder_fd:
                identity = identity_of(folder_fd, name)
        except FileNotFoundError:
            return Verdict(verdict.place, Outcome.GONE)
        # In this order: what is deleted has been read after it was identified.
        return replace(self._verifier.verdict(verdict.place), identity=identity)

    def _dealt_with(self, verdict: Verdict) -> Iterator[Verdict]:
        """Delete the file if it is to be deleted; the verdict if it stays."""
        if verdict.outcome is Outcome.GONE:
            return
        wanted = verdict.outcome is Outcome.VERIFIED or verdict.outcome in self._order.also
        if not wanted or verdict.identity is None:
            yield verdict
            return
        try:
            removed = self._order.dry or self._remove(verdict.place, verdict.identity)
        except FileNotFoundError:
            return  # somebody else has taken it away
        if removed:
            if verdict.outcome is Outcome.SUPERSEDED:
                self._superseded.add(verdict.place)
            self.files[verdict.place.clinic_id] += 1
            self.bytes[verdict.place.clinic_id] += verdict.identity.size
        else:
            yield Verdict(verdict.place, Outcome.DIFFERENT, "it was replaced meanwhile")

    def _remove(self, place: Place, identity: Identity) -> bool:
        """Delete exactly this file, and the folders that it leaves empty; False when it is another by now."""
        *above, name = place.parts
        with folder(self._root, above) as folder_fd:
            if not remove_exactly(folder_fd, name, identity):
                return False
        if place.day != self._order.today:
            remove_empty_folders(self._root, above)
        return True

    def _is_there(self, place: Place) -> bool:
        if place in self._superseded:
            return False
        *above, name = place.parts
        try:
            with folder(self._root, above) as folder_fd:
                return exists(folder_fd, name)
        except FileNotFoundError:
            return False
