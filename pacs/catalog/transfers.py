"""A study that passes from one clinic to another, or away for good, as the catalog sees it.

The owner changes first, in one transaction: from then on the old one sees nothing of the study, whatever its
images in the archive still say. A row in `transfers` stands for the work on these that is left to do; as long
as it is there, the importer lets the new owner's files wait (`pacs.catalog.ownership.reserve`), because an
image that was fetched to be tagged anew would overwrite the corrected one that was stored meanwhile.

A deleted study is dirty until the archive has removed it, and its owner's files wait likewise: what the
archive still has would be taken for what they send.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, false, insert, select, update

from pacs.catalog import ownership, sharing
from pacs.catalog.schema import series, studies, transfers
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from pacs.catalog.sharing import Share


@dataclass(frozen=True)
class OwnedStudy:
    """What the catalog knows of one study.

    Attributes:
        busy: files of it are, or may be, on their way to the archive.
        marks: how often the archive's copy was about to change.
    """

    study_uid: Uid
    owner: ClinicId
    state: str
    busy: bool
    marks: int

    @property
    def is_being_removed(self) -> bool:
        """Whether it was deleted, and the archive may have some of it."""
        return self.state == "deleted" and self.busy


@dataclass(frozen=True)
class Transfer:
    """A study whose images are not all tagged for their new owner yet."""

    study_uid: Uid
    from_clinic: ClinicId
    to_clinic: ClinicId


def owned(connection: Connection, study_uid: Uid, *, lock: bool = False) -> OwnedStudy | None:
    """One study; None when nobody owns it. With `lock` nobody else changes it until the transaction ends."""
    columns = (studies.c.clinic_id, studies.c.state, studies.c.marked, studies.c.refreshed)
    query = select(*columns).where(studies.c.study_uid == study_uid)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    busy = row.marked > row.refreshed
    return OwnedStudy(study_uid, ClinicId(row.clinic_id), row.state, busy, row.marked)


def under_way(connection: Connection) -> list[Transfer]:
    """The transfers that are not finished, the oldest first."""
    rows = connection.execute(select(transfers).order_by(transfers.c.started_at, transfers.c.study_uid))
    return [_transfer(row) for row in rows]


def transfer_of(connection: Connection, study_uid: Uid) -> Transfer | None:
    """The transfer of this study; None when none is under way."""
    row = connection.execute(select(transfers).where(transfers.c.study_uid == study_uid)).first()
    return _transfer(row) if row else None


def _transfer(row: Row[Any]) -> Transfer:
    return Transfer(Uid(row.study_uid), ClinicId(row.from_clinic), ClinicId(row.to_clinic))


@dataclass(frozen=True)
class Unfinished:
    """Studies whose files wait in the inbox until somebody has finished what was begun.

    Attributes:
        transfers: on their way to another clinic.
        deletions: that the archive has not removed yet.
        since: when the oldest of all was begun, or tried again; None without any.
    """

    transfers: tuple[Uid, ...]
    deletions: tuple[Uid, ...]
    since: datetime | None


def unfinished(connection: Connection) -> Unfinished:
    """What was begun and is not finished; under way, or interrupted."""
    moving = connection.execute(select(transfers.c.study_uid, transfers.c.started_at)).all()
    dying = connection.execute(
        select(studies.c.study_uid, studies.c.changed_at).where(
            studies.c.marked > studies.c.refreshed, studies.c.state == "deleted"
        )
    ).all()
    return Unfinished(
        tuple(sorted(Uid(row.study_uid) for row in moving)),
        tuple(sorted(Uid(row.study_uid) for row in dying)),
        min((at for _, at in (*moving, *dying)), default=None),
    )


def begin(connection: Connection, study: OwnedStudy, to_clinic: ClinicId, now: datetime) -> list[Share]:
    """Make the study another clinic's, in the transaction in which it was locked.

    All of its shares end: with whom it is shared is the new owner's to say. Returns them.
    """
    ended = sharing.unshare(connection, study.study_uid)
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study.study_uid)
        .values(
            clinic_id=to_clinic,
            revision=ownership.revision_after(studies.c.revision, now),
            settled=false(),
            changed_at=now,
        )
    )
    connection.execute(
        update(series).where(series.c.study_uid == study.study_uid).values(clinic_id=to_clinic)
    )
    # One in the other direction, or to a third clinic, takes the place of one that was not finished.
    connection.execute(delete(transfers).where(transfers.c.study_uid == study.study_uid))
    connection.execute(
        insert(transfers).values(
            study_uid=study.study_uid, from_clinic=study.owner, to_clinic=to_clinic, started_at=now
        )
    )
    return ended


def finish(connection: Connection, transfer: Transfer) -> bool:
    """All images are tagged; False when the study has gone elsewhere meanwhile."""
    result = connection.execute(
        delete(transfers).where(
            transfers.c.study_uid == transfer.study_uid, transfers.c.to_clinic == transfer.to_clinic
        )
    )
    return result.rowcount > 0


def bury(connection: Connection, study: OwnedStudy, now: datetime) -> list[Share]:
    """Make a tombstone of a study, in the transaction in which it was locked; returns the shares that end.

    It exists for nobody from now on, and nothing of its patient is left; its UID stays its owner's. A
    transfer of it ends. Its owner's files wait until `end_removal`.
    """
    ended = sharing.unshare(connection, study.study_uid)
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study.study_uid)
        .values(
            state="deleted",
            revision=ownership.revision_after(studies.c.revision, now),
            marked=studies.c.marked + 1,
            changed_at=now,
            series_count=0,
            instance_count=0,
            **dict.fromkeys(_SAID, ""),
        )
    )
    connection.execute(delete(transfers).where(transfers.c.study_uid == study.study_uid))
    return ended


def begin_removal(connection: Connection, study_uid: Uid, now: datetime) -> OwnedStudy | None:
    """Let the owner's files of a deleted study wait; returns it, for `end_removal`.

    None when it is not deleted: its owner has sent it again.
    """
    study = owned(connection, study_uid, lock=True)
    if study is None or study.state != "deleted":
        return None
    ownership.mark(connection, study_uid, now)
    return replace(study, busy=True, marks=study.marks + 1)


def end_removal(connection: Connection, study: OwnedStudy) -> bool:
    """The archive has nothing of a deleted study; its owner may send it again.

    False when somebody else has begun to remove it meanwhile: whoever began last says when it is done.
    """
    result = connection.execute(
        update(studies)
        .where(
            studies.c.study_uid == study.study_uid,
            studies.c.state == "deleted",
            studies.c.marked == study.marks,
        )
        .values(refreshed=studies.c.marked)
    )
    return result.rowcount > 0


_SAID = frozenset(
    {
        "patient_id", "study_date", "study_time", "study_id", "accession_number", "patient_name_key",
        "patient_birth_date", "patient_sex", "study_description_key", "referring_physician_key",
        "modalities", "terms", "dicom_json",
    }
)  # fmt: skip
"""The columns that say something of the patient."""
