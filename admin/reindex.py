"""Rebuilds the worklist from the archive, and restores owners that a lost catalog took with it.

Never deletes or reassigns an owner. What the archive no longer lists is marked missing and hidden, but
only when it plausibly is: an archive that is empty, or the wrong one, must not hide everything.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, select

from pacs import MODIFYING_SYSTEM
from pacs.archive import ArchiveUnavailableError
from pacs.archive.model import text, values
from pacs.catalog import clinics, ownership
from pacs.catalog.engine import insert_if_absent
from pacs.catalog.ownership import Claim, Granted
from pacs.catalog.schema import clinics as clinics_table
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, InvalidClinicIdError, Uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from pacs.archive import Archive, ArchivedStudy
    from pacs.archive.model import DicomJson
    from pacs.catalog import Catalog

_ORIGINAL_ATTRIBUTES_SEQUENCE = "04000561"
_MODIFYING_SYSTEM = "04000563"
_INSTITUTION_NAME = "00080080"
_PATIENT_ID = "00100020"

_ABOUT_ONE_STUDY = frozenset({"status-400", "status-500", "not-dicom-json"})
_CHUNK = 100
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


class _NotRestorableError(Exception):
    """Why a study stays without an owner."""


@dataclass
class Report:
    """What became of the studies.

    Attributes:
        listed: by the archive.
        refreshed: rows brought up to date.
        restored: studies that got back the owner written into their instances.
        missing: confirmed studies that the archive no longer has; hidden now.
        deleted: studies that were deleted on purpose and that the archive lists all the same; left alone.
        unread: studies that the archive itself could not answer about; left as they were.
        ownerless: studies that stay without an owner, by reason; nobody but the cross-clinic roles sees them.
        examples: the first of these two, with the reason.
        clinics: that got studies back.
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


@dataclass(frozen=True)
class Reindex:
    """One run.

    Args:
        refresh: brings one study's row up to date; False when the archive does not list it any more.
        groups: the identity provider's clinics with their names; asked only when the catalog has none.
        record: writes an audit row: the connection, the action, the clinic, the study.
        now: the time.
    """

    catalog: Catalog
    archive: Archive
    refresh: Callable[[Uid], bool]
    groups: Callable[[], Mapping[ClinicId, str]]
    record: Callable[[Connection, str, ClinicId, Uid | None], None]
    now: Callable[[], datetime]
    report: Report = field(default_factory=Report)

    def run(self, *, force: bool, advance: Callable[[int], None]) -> None:
        """Do it; `self.report` is filled as far as it came.

        Args:
            force: hide what is missing even if that is most of the catalog.
            advance: told of every so many studies done.

        Raises:
            TooManyMissingError: without `force`; all that is there was refreshed, nothing was hidden.
            ArchiveUnavailableError: the archive fell silent; what was done stays, run it again.
        """
        started = self.now()
        known = self.count(studies.c.state == "confirmed")
        clinic_names = self._clinic_names()
        with ThreadPoolExecutor(_WORKERS) as workers:
            for chunk in _chunks(self.archive.study_uids()):
                self.report.listed += len(chunk)
                states = self._states(chunk)
                done = workers.map(lambda uid, s=states: self._visit(uid, s.get(uid), clinic_names), chunk)
                for count_in in done:
                    count_in(self.report)
                advance(len(chunk))
        self._hide_missing(started, known, force=force)

    def count(self, where: ColumnElement[bool]) -> int:
        """How many studies of the catalog are so."""
        with self.catalog.read() as connection:
            return connection.scalar(select(func.count()).select_from(studies).where(where)) or 0

    def _clinic_names(self) -> Mapping[ClinicId, str]:
        with self.catalog.read() as connection:
            known = {clinic.id: clinic.name for clinic in clinics.all_clinics(connection)}
        return known or self.groups()

    def _states(self, chunk: list[Uid]) -> dict[Uid, str]:
        with self.catalog.read() as connection:
            rows = connection.execute(
                select(studies.c.study_uid, studies.c.state).where(studies.c.study_uid.in_(chunk))
            )
            return {Uid(row.study_uid): row.state for row in rows}

    def _visit(
        self, study_uid: Uid, state: str | None, clinic_names: Mapping[ClinicId, str]
    ) -> Callable[[Report], None]:
        """Work on one study, in any thread; what is returned counts it, in the caller's."""
        if state == "deleted":
            return _count_deleted
        if state is not None:
            return self._refresh(study_uid)
        try:
            owner = self._restore(study_uid, clinic_names)
        except _NotRestorableError as error:
            reason = str(error)
            return lambda report: _count_ownerless(report, study_uid, reason)
        except ArchiveUnavailableError as error:
            return _unread(study_uid, error)
        self._refresh(study_uid)
        return lambda report: _count_restored(report, owner)

    def _refresh(self, study_uid: Uid) -> Callable[[Report], None]:
        try:
            return _count_refreshed if self.refresh(study_uid) else _count_missing
        except ArchiveUnavailableError as error:
            return _unread(study_uid, error)

    def _restore(self, study_uid: Uid, clinic_names: Mapping[ClinicId, str]) -> ClinicId:
        study = self.archive.study(study_uid)
        if study is None:
            raise _NotRestorableError("the archive lists it, but none of its series")
        owner = self._written_owner(study)
        if owner not in clinic_names:
            raise _NotRestorableError(f"its clinic {owner} is not in the catalog: add it and run this again")
        with self.catalog.write() as connection:
            if self._add_clinic(connection, owner, clinic_names[owner]):
                self.record(connection, "restore-clinic", owner, None)
            self._claim(connection, study, owner)
            self.record(connection, "restore-owner", owner, study_uid)
        return owner

    def _add_clinic(self, connection: Connection, clinic_id: ClinicId, name: str) -> bool:
        # Several threads may restore the first studies of one clinic at once.
        return insert_if_absent(connection, clinics_table, id=clinic_id, name=name, created_at=self.now())

    def _written_owner(self, study: ArchivedStudy) -> ClinicId:
        if len(study.series_uids) != len(study.series):
            raise _NotRestorableError("the archive lists a series without a UID")
        owners = {
            written_owner(self.archive.first_instance_metadata(study.study_uid, series_uid))
            for series_uid in study.series_uids
        }
        if None in owners:
            raise _NotRestorableError("not all of its series were stored through clinicpacs")
        if len(owners) != 1:
            raise _NotRestorableError("its series name different clinics")
        return next(owner for owner in owners if owner is not None)

    def _claim(self, connection: Connection, study: ArchivedStudy, owner: ClinicId) -> None:
        # The same reservation as the importer's, so that whoever came first stays the owner.
        patient_id = study.text(_PATIENT_ID).strip("\0 ").strip()
        for series_uid in study.series_uids:
            claim = Claim(owner, study.study_uid, series_uid, patient_id)
            verdict = ownership.reserve(connection, claim, self.now())
            if verdict is not Granted.OWNED:
                raise _NotRestorableError(f"the catalog says: {verdict}")

    def _hide_missing(self, started: datetime, known: int, *, force: bool) -> None:
        unseen = and_(studies.c.state == "confirmed", studies.c.changed_at < started)
        missing = self.count(unseen)
        plausible = max(_PLAUSIBLE_LOSS, known // _PLAUSIBLE_SHARE)
        if missing and not force and (self.report.listed == 0 or missing > plausible):
            raise TooManyMissingError(self.report.listed, known, missing)
        for study_uid in self._keyset(unseen):
            # Each is asked for by its UID: a page of the listing may have slipped past it.
            self._refresh(study_uid)(self.report)

    def _keyset(self, where: ColumnElement[bool]) -> Iterator[Uid]:
        last = ""
        while True:
            query = (
                select(studies.c.study_uid)
                .where(where, studies.c.study_uid > last)
                .order_by(studies.c.study_uid)
                .limit(_CHUNK)
            )
            with self.catalog.read() as connection:
                page = list(connection.scalars(query))
            if not page:
                return
            yield from (Uid(each) for each in page)
            last = page[-1]


def written_owner(metadata: DicomJson | None) -> ClinicId | None:
    """The clinic that clinicpacs itself wrote into an instance; None when somebody else wrote last."""
    history = values(metadata, _ORIGINAL_ATTRIBUTES_SEQUENCE)
    if not history or text(history[-1], _MODIFYING_SYSTEM).strip() != MODIFYING_SYSTEM:
        return None
    try:
        return ClinicId(text(metadata, _INSTITUTION_NAME).strip())
    except InvalidClinicIdError:
        return None


def _chunks(study_uids: Iterable[Uid]) -> Iterator[list[Uid]]:
    iterator = iter(study_uids)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _unread(study_uid: Uid, error: ArchiveUnavailableError) -> Callable[[Report], None]:
    """Counts a study that the archive stumbles over; where it answers nothing at all, the run is over."""
    if error.reason not in _ABOUT_ONE_STUDY:
        raise error
    reason = f"the archive cannot tell of it: {error.reason}"

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
