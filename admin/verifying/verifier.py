"""Holds a clinic's files in processed against the archive, several at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from admin.processed import days, places
from admin.verifying.again import Trees, look_again
from admin.verifying.deletions import Deletions
from admin.verifying.judging import PAUSES, Judge, verdict_on
from admin.verifying.opened import key_of
from admin.verifying.outcome import Outcome, Verdict
from admin.verifying.owners import Owners
from admin.verifying.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from admin.platform import Platform
    from admin.processed import Place
    from pacs.ids import ClinicId

CONNECTIONS = 4
_AHEAD = 4 * CONNECTIONS

Given = TypeVar("Given")
Result = TypeVar("Result")


class Verifier:
    """Verifies on a running platform."""

    def __init__(self, platform: Platform, pauses: tuple[float, ...] = PAUSES) -> None:
        settings = platform.settings
        self._archive = platform.archive
        self._processed = settings.processed_path
        self._deletions = Deletions(platform.catalog)
        owners = Owners(platform.catalog)
        self.judge = Judge(self._processed, self._archive, self._deletions, owners, pauses)
        inbox = Judge(settings.inbox_path, self._archive, self._deletions, owners, pauses)
        self._trees = Trees(settings.inbox_path, self._processed, inbox, self.judge)

    def require_archive(self) -> None:
        """Refuse to judge when the archive does not answer as one.

        Raises:
            ArchiveUnavailableError: it does not answer as a DICOMweb archive does.
        """
        self._archive.is_empty()

    def read(self, clinic_id: ClinicId, versions: Versions, since: str = "") -> Iterator[Verdict]:
        """Note every instance among a clinic's files of a day or later; the verdicts on what is none.

        Raises:
            OSError: a folder cannot be read.
        """
        for day in days(self._processed, clinic_id, since):
            for place in places(self._processed, clinic_id, day):
                found = self.judge.read(place)
                if isinstance(found, Verdict):
                    yield found
                    continue
                with found:
                    versions.add(key_of(found.header), place)

    def clinic(
        self, clinic_id: ClinicId, since: str = "", tell: Callable[[int, int], None] = lambda _done, _of: None
    ) -> Iterator[Verdict]:
        """The verdict on each file of a clinic that was filed on a day or later.

        Args:
            clinic_id: whose.
            since: the first day's folder; all days if it is empty.
            tell: gets how many are done, and of how many, as far as they are known.

        Raises:
            ArchiveUnavailableError: the archive does not answer; what was said before holds.
            OSError: a folder cannot be read.
        """
        doubts: dict[Place, tuple[bytes, Verdict]] = {}
        with closing(Versions()) as versions:
            yield from self.read(clinic_id, versions, since)
            of = versions.count
            for done, (key, verdict) in enumerate(self._judged(clinic_id, versions), 1):
                tell(done, of)
                if verdict.outcome is Outcome.DIFFERENT:
                    doubts[verdict.place] = key, verdict
                else:
                    yield verdict
        yield from look_again(doubts, self._trees)

    def _judged(self, clinic_id: ClinicId, versions: Versions) -> Iterator[tuple[bytes, Verdict]]:
        def given() -> Iterator[tuple[bytes, Place, str]]:
            for key, place in versions.of_clinic(clinic_id):
                last = versions.of(key)[-1]
                yield key, place, "" if last == place else f"by {last}"

        def judge(each: tuple[bytes, Place, str]) -> tuple[bytes, Verdict]:
            key, place, superseded = each
            return key, self.verdict(place, superseded)

        return side_by_side(judge, given())

    def verdict(self, place: Place, superseded: str = "") -> Verdict:
        """The verdict on one file; `superseded` says by which other one, if by any."""
        found = self.judge.read(place)
        if isinstance(found, Verdict):
            return found
        with found:
            if self._deletions.has_tombstone(found.header.study_instance_uid):
                return verdict_on(found, Outcome.DELETED)
            if superseded:
                return verdict_on(found, Outcome.SUPERSEDED, superseded)
            return self.judge.compare(found)


def side_by_side(work: Callable[[Given], Result], each: Iterable[Given]) -> Iterator[Result]:
    """Results in order, computed by several threads a little ahead; few are held."""
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            for one in each:
                ahead.append(pool.submit(work, one))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
