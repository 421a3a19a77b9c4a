"""Studies that a second clinic may read, too, each to the end of a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, or_, select

from pacs.catalog.inserting import upsert
from pacs.catalog.schema import studies, study_access
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import BindParameter, ColumnElement, Connection, Select


@dataclass(frozen=True)
class Share:
    """One study that its owner's patients brought to another clinic.

    Attributes:
        study_uid: which.
        owner: whose it is.
        clinic_id: who may read it besides.
        until: the last day on which, in TZ.
    """

    study_uid: Uid
    owner: ClinicId
    clinic_id: ClinicId
    until: date


def is_open(clinics: Select[tuple[str]], today: BindParameter[date]) -> ColumnElement[bool]:
    """Whether a share with one of the clinics is open; `gateway.qido.search` asks the same in its own SQL."""
    return and_(study_access.c.clinic_id.in_(clinics), study_access.c.until >= today)


def shares(connection: Connection, of: ClinicId | Uid | None = None) -> list[Share]:
    """All shares, or those of one study, or those that a clinic gives and gets; expired ones, too."""
    query = select(study_access, studies.c.clinic_id.label("owner")).join(
        studies, studies.c.study_uid == study_access.c.study_uid
    )
    if isinstance(of, ClinicId):
        query = query.where(or_(study_access.c.clinic_id == of, studies.c.clinic_id == of))
    elif of is not None:
        query = query.where(study_access.c.study_uid == of)
    order = (study_access.c.until, study_access.c.study_uid, study_access.c.clinic_id)
    return [
        Share(Uid(row.study_uid), ClinicId(row.owner), ClinicId(row.clinic_id), row.until)
        for row in connection.execute(query.order_by(*order))
    ]


def share(connection: Connection, study_uid: Uid, clinic_id: ClinicId, until: date) -> None:
    """Let a clinic read a study to the end of that day, which takes the place of an earlier agreement."""
    upsert(connection, study_access, study_uid=study_uid, clinic_id=clinic_id, until=until)


def unshare(connection: Connection, study_uid: Uid, clinic_id: ClinicId | None = None) -> list[Share]:
    """End what one clinic, or every one, was given of a study; returns what there was."""
    ended = [each for each in shares(connection, study_uid) if clinic_id in {None, each.clinic_id}]
    _remove(connection, study_access.c.study_uid == study_uid, ended)
    return ended


def clean(connection: Connection, today: date) -> list[Share]:
    """Forget the shares that ended before today; returns them."""
    ended = [each for each in shares(connection) if each.until < today]
    for each in ended:
        # One that was prolonged meanwhile stays.
        _remove(connection, study_access.c.until < today, [each])
    return ended


def _remove(connection: Connection, where: ColumnElement[bool], ended: list[Share]) -> None:
    for each in ended:
        connection.execute(
            delete(study_access).where(
                where,
                study_access.c.study_uid == each.study_uid,
                study_access.c.clinic_id == each.clinic_id,
            )
        )
