"""Rebuilds the worklist from the archive, and restores owners that a lost catalog took with it.

Never deletes or reassigns an owner. What the archive no longer lists is marked missing and hidden, but
only when it plausibly is: an archive that is empty, or the wrong one, must not hide everything.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from admin.restoring import LostClinics, Restoring
from admin.seen import Seen
from pacs.archive import ArchiveUnavailableError
from pacs.archive.listing import ABOUT_ONE_STUDY
from pacs.catalog import listing, ownership
from pacs.catalog.schema import studies
from pacs.catalog.worklist import OvertakenError
from pacs.ids import ClinicId, Uid
from pacs.written_owner import NotRestorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

    from pacs.archive import Archive, ListedStudy, Lister
    from pacs.catalog import Catalog

_PAGE = 1000
_AHEAD = 2
_WORKERS = 4
_EXAMPLES = 20
# So many studies may well have been deleted from an archive on purpose; more is a wrong or a new archive.
_PLAUSIBLE_LOSS = 3
_PLAUSIBLE_SHARE = 10


class TooManyMissingError(Exception):
    """The archive lists far fewer studies than the catalog knows: nothing was hidden."""

    def __init__(self, listed: int, known: int, missing: int) -> None:
        super().__init__(
            f"the archive lists {listed} studies and lacks {missing} of the {known} in the catalog"
        )


@dataclass
class Report:
    """What became of the studies.

    Attributes:
        listed: by the archive.
        refreshed: rows that are up to date now, or were.
        restored: studies that got back the owner written into their instances.
        missing: confirmed studies that the archive no longer has; hidden now.
        deleted: studies that were deleted on purpose and that the archive lists all the same; left alone.
        unread: studies that the archive itself could not answer about; left as they were.
        ownerless: studies that stay without an owner, by reason; nobody but the cross-clinic roles sees them.
        examples: the first of these two, with the reason.
        clinics: that got studies back.
        served: clinics that came back from the identity provider and are served again.
    """

    listed: int = 0
    refreshed: int = 0
    restored: int = 0
    missing: int = 0
    deleted: int = 0
    unread: int = 0
    ownerless: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[Uid, str]] = field(default_factory=list)
    clinics: set[ClinicId] = field(default_factory=set)
    served: list[ClinicId] = field(default_factory=list)


@dataclass(frozen=True)
class _Page:
    """What the archive listed, and the rows of these studies as they were before it was asked."""

    listed: list[ListedStudy]
    rows: Mapping[str, Row[*tuple[Any, ...]]]
    size: int  # with those that have no UID


@dataclass(frozen=True)
class Reindex:
    """One run.

    Args:
        refresh: brings one study's row up to date; False when the archive does not list it any more.
        groups: the identity provider's clinics with their names; asked only when the catalog has none.
        record: writes an audit row: the connection, the action, the clinic, the study.
        stable_age_seconds: how long the archive may serve old metadata after a store.
        now: the time.
        anew: write the rows that have not changed, too.
    """

    catalog: Catalog
    archive: Archive
    refresh: Callable[[Uid], bool]
    groups: Callable[[], Mapping[ClinicId, str]]
    record: Callable[[Connection, str, ClinicId, Uid | None], None]
    stable_age_seconds: float
    now: Callable[[], datetime]
    anew: bool = False
    report: Report = field(default_factory=Report)

    def run(self, *, force: bool, advance: Callable[[int], None]) -> None:
        """Do it; `self.report` is filled as far as it came.

        Args:
            force: hide what is missing even if that is most of the catalog, and serve clinics of which the
                archive has nothing.
            advance: told of every so many studies done.

        Raises:
            TooManyMissingError: without `force`; all that is there was refreshed, nothing was hidden.
            NothingRestoredError: without `force`; run it again with the right archive.
            ArchiveUnavailableError: the archive fell silent; what was done stays, run it again.
        """
        started = self.now()
        known = self.count(studies.c.state == "confirmed")
        lost = LostClinics(self.catalog, self.record, self.now)
        owners = Restoring(self.catalog, self.archive, lost.bring_back(self.groups), self.record, self.now)
        with closing(Seen()) as seen:
            with ThreadPoolExecutor(_WORKERS) as workers:
                for page in self._pages():
                    uids = [each.study_uid for each in page.listed]
                    if not seen.without(uids):
                        # An archive that takes no offset would begin from the start for ever.
                        break
                    self.report.listed += len(page.listed)
                    singly = self._write(page, seen.add(uids))
                    for count_in in workers.map(partial(self._visit, owners, page.rows), singly):
                        count_in(self.report)
                    advance(len(page.listed))
            self.report.served = lost.serve(force=force)
            self._hide_missing(started, seen, known, force=force)

    def count(self, where: ColumnElement[bool]) -> int:
        """How many studies of the catalog are so."""
        with self.catalog.read() as connection:
            return connection.scalar(select(func.count()).select_from(studies).where(where)) or 0

    def _pages(self) -> Iterator[_Page]:
        """The listing, up to an empty page; the next ones are asked for while one is worked on.

        A short page is not the last: the archive may cap its answers, or leave out what was deleted while it
        answered. The next begins where this one ended in truth.
        """
        ask = self.archive.lister()
        with ThreadPoolExecutor(_AHEAD) as ahead:
            offset, is_full = 0, True
            coming: deque[Future[_Page]] = deque()
            while True:
                while len(coming) < (_AHEAD if is_full else 1):
                    coming.append(ahead.submit(self._page, ask, offset + len(coming) * _PAGE))
                page = coming.popleft().result()
                if not page.size:
                    return
                offset += page.size
                is_full = page.size == _PAGE
                if not is_full:
                    # What was asked for begins at a wrong place, and what comes may be as short.
                    coming.clear()
                yield page

    def _page(self, ask: Lister, offset: int) -> _Page:
        with self.catalog.snapshot() as before:
            found = ask(offset, _PAGE)
            listed = [each for each in found if each]
            rows = listing.rows(before, [each.study_uid for each in listed])
        return _Page(listed, rows, size=len(found))

    def _write(self, page: _Page, new: set[Uid]) -> list[Uid]:
        """Bring the rows of a page up to date; what is left are studies to be looked at singly."""
        singly: list[Uid] = []
        written: dict[Uid, dict[str, Any]] = {}
        for study in page.listed:
            row = page.rows.get(study.study_uid)
            # Listed twice, it is two studies of one UID, and its row is of both.
            changes = listing.changes(row, study, anew=self.anew) if row and study.study_uid in new else None
            if changes is None:
                singly.append(study.study_uid)
            elif changes:
                written[study.study_uid] = changes
        now = self.now()
        settles_at = ownership.settles_at(now, self.stable_age_seconds)
        try:
            with self.catalog.write() as connection:
                listing.record(connection, written, page.rows, now=now, settles_at=settles_at)
        except OvertakenError:
            singly += written
        self.report.refreshed += len(page.listed) - len(singly)
        return list(dict.fromkeys(singly))

    def _visit(
        self, owners: Restoring, rows: Mapping[str, Row[*tuple[Any, ...]]], study_uid: Uid
    ) -> Callable[[Report], None]:
        """Work on one study, in any thread; what is returned counts it, in the caller's."""
        row = rows.get(study_uid)
        # One that was imported since the page was asked for has an owner, and none to restore.
        state = self._state(study_uid) if row is None else row.state
        if state is not None:
            return _count_deleted if state == "deleted" else self._refresh(study_uid)
        try:
            owner = owners.restore(study_uid)
        except NotRestorableError as error:
            reason = str(error)
            return lambda report: _count_ownerless(report, study_uid, reason)
        except ArchiveUnavailableError as error:
            return _unread(study_uid, error)
        self._refresh(study_uid)
        return lambda report: _count_restored(report, owner)

    def _state(self, study_uid: Uid) -> str | None:
        with self.catalog.read() as connection:
            return connection.scalar(select(studies.c.state).where(studies.c.study_uid == study_uid))

    def _refresh(self, study_uid: Uid) -> Callable[[Report], None]:
        try:
            return _count_refreshed if self.refresh(study_uid) else _count_missing
        except ArchiveUnavailableError as error:
            return _unread(study_uid, error)

    def _hide_missing(self, started: datetime, seen: Seen, known: int, *, force: bool) -> None:
        missing = sum(1 for _ in self._unseen(started, seen))
        plausible = max(_PLAUSIBLE_LOSS, known // _PLAUSIBLE_SHARE)
        if missing and not force and (self.report.listed == 0 or missing > plausible):
            raise TooManyMissingError(self.report.listed, known, missing)
        for study_uid in self._unseen(started, seen):
            # Each is asked for by its UID: a page of the listing may have slipped past it.
            self._refresh(study_uid)(self.report)

    def _unseen(self, started: datetime, seen: Seen) -> Iterator[Uid]:
        """Studies that the catalog had, and shows, and that were not listed."""
        query = (
            select(studies.c.study_uid)
            .where(studies.c.state == "confirmed", studies.c.changed_at < started)
            .order_by(studies.c.study_uid)
            .limit(_PAGE)
        )
        last = ""
        while True:
            with self.catalog.read() as connection:
                page = [Uid(each) for each in connection.scalars(query.where(studies.c.study_uid > last))]
            if not page:
                return
            yield from sorted(seen.without(page))
            last = page[-1]


def _unread(study_uid: Uid, error: ArchiveUnavailableError) -> Callable[[Report], None]:
    """Counts a study that the archive stumbles over; where it answers nothing at all, the run is over."""
    if error.reason not in ABOUT_ONE_STUDY:
        raise error
    reason = f"the archive could not answer for it: {error.reason}"

    def count_in(report: Report) -> None:
        report.unread += 1
        _give_example(report, study_uid, reason)

    return count_in


def _give_example(report: Report, study_uid: Uid, reason: str) -> None:
    if len(report.examples) < _EXAMPLES:
        report.examples.append((study_uid, reason))


def _count_refreshed(report: Report) -> None:
    report.refreshed += 1


def _count_missing(report: Report) -> None:
    report.missing += 1


def _count_deleted(report: Report) -> None:
    report.deleted += 1


def _count_restored(report: Report, owner: ClinicId) -> None:
    report.restored += 1
    report.clinics.add(owner)


def _count_ownerless(report: Report, study_uid: Uid, reason: str) -> None:
    report.ownerless[reason] += 1
    _give_example(report, study_uid, reason)
