"""Who owns a study and a series: reserved before the first byte is sent, confirmed by the archive.

Why the catalog and not the archive decides (measured, Orthanc 1.12): a second clinic's instances under
a known StudyInstanceUID are merged into the first one's study, and another PatientID makes a second
study of the same UID that answers 404 for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import Row, case, delete, exists, false, select, update

from pacs.catalog.inserting import insert_if_absent
from pacs.catalog.schema import series, studies, transfers
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Any

    from sqlalchemy import ColumnElement, Connection, Select


class Refusal(StrEnum):
    """Why a file may not go into the archive under the UIDs that it bears."""

    STUDY_OWNED = "study-owned-by-another-clinic"
    SERIES_OWNED = "series-owned-by-another-clinic"
    PATIENT_ID_DIFFERS = "patient-id-differs"
    SERIES_IN_ANOTHER_STUDY = "series-in-another-study"
    STUDY_OWNERLESS = "study-without-owner"
    """The archive has the study, the catalog does not know it, and its images are not all this clinic's."""


class Granted(StrEnum):
    """What else a reservation may say."""

    OWNED = "owned"
    WAIT = "wait"
    """The UID is reserved provisionally by someone whose files may all yet fail, the study is on its way from
    another clinic, or the archive has not removed what it had of a deleted one yet."""
    UNKNOWN = "unknown"
    """The catalog does not know the study: it may be reserved once the archive was asked whose it is."""


@dataclass(frozen=True)
class Claim:
    """What the header of one file asks for; `patient_id` as the archive reads it."""

    clinic_id: ClinicId
    study_uid: Uid
    series_uid: Uid
    patient_id: str


def reserve(connection: Connection, claim: Claim, now: datetime, *, new: bool = True) -> Refusal | Granted:
    """Reserve the claim's study and series, in a write transaction, and mark the study dirty.

    Without `new`, only a study that the catalog knows.
    """
    if new:
        insert_if_absent(
            connection,
            studies,
            study_uid=claim.study_uid,
            clinic_id=claim.clinic_id,
            patient_id=claim.patient_id,
            state="provisional",
            reserved_at=now,
            changed_at=now,
        )
    study = connection.execute(
        select(studies).where(studies.c.study_uid == claim.study_uid).with_for_update()
    ).first()
    if study is None:
        # New, another clinic gave it up between the two statements: PostgreSQL shows each its own moment.
        return Granted.WAIT if new else Granted.UNKNOWN
    verdict = _judge_study(study, claim)
    if verdict is Granted.OWNED and _is_under_way(connection, claim.study_uid):
        verdict = Granted.WAIT
    if verdict is not Granted.OWNED:
        return verdict
    insert_if_absent(
        connection,
        series,
        series_uid=claim.series_uid,
        study_uid=claim.study_uid,
        clinic_id=claim.clinic_id,
    )
    held = connection.execute(select(series).where(series.c.series_uid == claim.series_uid)).first()
    verdict = Granted.WAIT if held is None else _judge_series(held, claim)
    if verdict is Granted.OWNED:
        if study.state == "deleted":
            _revive(connection, claim, now)
        mark(connection, claim.study_uid, now)
    elif study.state == "provisional":
        _drop_if_empty(connection, claim.study_uid, claim.clinic_id)
    return verdict


def _judge_study(study: Row[Any], claim: Claim) -> Refusal | Granted:
    if study.clinic_id != claim.clinic_id:
        return Granted.WAIT if study.state == "provisional" else Refusal.STUDY_OWNED
    if study.state == "deleted":
        # What the archive still has of it would be taken for what its owner sends now.
        return Granted.WAIT if study.marked > study.refreshed else Granted.OWNED
    if study.patient_id != claim.patient_id:
        return Granted.WAIT if study.state == "provisional" else Refusal.PATIENT_ID_DIFFERS
    return Granted.OWNED


def _is_under_way(connection: Connection, study_uid: Uid) -> bool:
    """Whether its images are being tagged anew: one that was fetched for that would replace the clinic's."""
    row = select(transfers.c.study_uid).where(transfers.c.study_uid == study_uid)
    return connection.scalar(row) is not None


def _judge_series(held: Row[Any], claim: Claim) -> Refusal | Granted:
    if held.study_uid == claim.study_uid:
        return Granted.OWNED
    if not held.confirmed:
        return Granted.WAIT
    if held.clinic_id != claim.clinic_id:
        return Refusal.SERIES_OWNED
    return Refusal.SERIES_IN_ANOTHER_STUDY


def _revive(connection: Connection, claim: Claim, now: datetime) -> None:
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == claim.study_uid)
        .values(
            state="provisional",
            patient_id=claim.patient_id,
            # What the archive answered while it still had the deleted one is not written any more.
            revision=revision_after(studies.c.revision, now),
            reserved_at=now,
            changed_at=now,
        )
    )


def mark(connection: Connection, study_uid: Uid, now: datetime) -> None:
    """The archive's copy of this study is about to change."""
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid)
        .values(marked=studies.c.marked + 1, settled=false(), changed_at=now)
    )


def confirm(connection: Connection, study_uid: Uid, series_uids: Iterable[Uid], now: datetime) -> None:
    """The archive has confirmed an instance of each of these series."""
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid, studies.c.state.in_(("provisional", "missing")))
        .values(state="confirmed", changed_at=now)
    )
    connection.execute(
        update(series)
        .where(series.c.study_uid == study_uid, series.c.series_uid.in_(list(series_uids)))
        .values(confirmed=True)
    )


def drop_provisional(
    connection: Connection, study_uid: Uid, clinic_id: ClinicId, *, marks: int | None = None
) -> bool:
    """Give up what nothing was ever stored under: unconfirmed series, and the study if it is provisional.

    One that was deleted before, which its confirmed series tell, is its owner's tombstone again.

    Call only when none of its files is in flight and the archive lists none. With `marks`,
    as `worklist.standing` had them before the archive was asked, nothing is dropped if it was marked since.
    True when the study itself was dropped.
    """
    marked = connection.scalar(
        select(studies.c.marked).where(studies.c.study_uid == study_uid).with_for_update()
    )
    if marks is not None and marked != marks:
        return False
    connection.execute(
        delete(series).where(
            series.c.study_uid == study_uid, series.c.clinic_id == clinic_id, series.c.confirmed == false()
        )
    )
    dropped = _drop_if_empty(connection, study_uid, clinic_id)
    connection.execute(
        update(studies)
        .where(
            studies.c.study_uid == study_uid,
            studies.c.clinic_id == clinic_id,
            studies.c.state == "provisional",
        )
        .values(state="deleted", patient_id="", refreshed=studies.c.marked)
    )
    return dropped


def _drop_if_empty(connection: Connection, study_uid: Uid, clinic_id: ClinicId) -> bool:
    result = connection.execute(
        delete(studies).where(
            studies.c.study_uid == study_uid,
            studies.c.clinic_id == clinic_id,
            studies.c.state == "provisional",
            ~exists().where(series.c.study_uid == study_uid),
        )
    )
    return result.rowcount > 0


@dataclass(frozen=True)
class DirtyStudy:
    """A study whose row may be behind the archive."""

    study_uid: Uid
    clinic_id: ClinicId
    provisional: bool
    changed_at: datetime


def dirty(connection: Connection, clinic_ids: Iterable[ClinicId]) -> list[DirtyStudy]:
    """The dirty studies of these clinics, the longest waiting first; not those that are being deleted."""
    rows = connection.execute(
        select(studies.c.study_uid, studies.c.clinic_id, studies.c.state, studies.c.changed_at)
        .where(
            studies.c.marked > studies.c.refreshed,
            studies.c.clinic_id.in_(list(clinic_ids)),
            studies.c.state != "deleted",
        )
        .order_by(studies.c.changed_at)
    )
    return [
        DirtyStudy(Uid(row.study_uid), ClinicId(row.clinic_id), row.state == "provisional", row.changed_at)
        for row in rows
    ]


_REVISIONS_BEGAN = 1_700_000_000
"""Seconds since 1970, taken off so that a 32-bit column lasts."""


def revision_after(revision: int | ColumnElement[int], now: datetime) -> Any:
    """The next revision of a study: never less than the time in seconds.

    A revision is part of the key by which nginx keeps frames. After a restore the catalog counts on from an
    older state, and a plain counter would come to revisions again that stand for other images.
    """
    clock = int(now.timestamp()) - _REVISIONS_BEGAN
    if isinstance(revision, int):
        return max(revision + 1, clock)
    return case((revision + 1 > clock, revision + 1), else_=clock)


def settle(connection: Connection, now: datetime) -> int:
    """Raise the revision of studies whose metadata the archive serves fresh since their last store.

    Until StableAge has passed the archive may serve the old metadata, so nothing made from them may be
    kept longer. Returns how many; one that somebody writes to is settled another time.
    """
    free = _free(studies.c.settles_at <= now, studies.c.marked == studies.c.refreshed)
    result = connection.execute(
        update(studies)
        .where(studies.c.study_uid.in_(free))
        .values(settled=True, revision=revision_after(studies.c.revision, now))
    )
    return result.rowcount


_SKEW = timedelta(minutes=1)
"""By how much the clocks of two machines that share a catalog may differ."""


def settle_by(connection: Connection, latest: datetime, *, anew: bool = False) -> None:
    """No study settles much later than this, whatever the clock said that its time was taken from.

    With `anew` none settles before: the clock was set forward, and no time that has come by it tells.
    """
    free = _free(studies.c.settles_at < latest if anew else studies.c.settles_at > latest + _SKEW)
    connection.execute(update(studies).where(studies.c.study_uid.in_(free)).values(settles_at=latest))


def _free(*conditions: ColumnElement[bool]) -> Select[tuple[str]]:
    """The unsettled studies of which this is true, locked, but for those that somebody writes to."""
    # Not waited for: whoever reserves several studies could wait for one of ours in turn.
    found = select(studies.c.study_uid).where(studies.c.settled == false(), *conditions)
    return found.with_for_update(skip_locked=True)


def settles_at(now: datetime, stable_age_seconds: float) -> datetime:
    """When the archive's metadata may be kept; a second more, for the archive's own clock tick."""
    return now + timedelta(seconds=stable_age_seconds + 1)
