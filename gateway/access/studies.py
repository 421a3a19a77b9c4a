"""Whether a study, and a series of it, exists for a caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from pacs.catalog.schema import series, studies, study_access
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection, Row

    from gateway.access.caller import Caller


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that this caller may read; made by `look_up` only.

    `owner` is None for a study that the catalog does not know, which is open to cross-clinic roles
    only. `revision` is the one read together with the authorisation. `settled`: the archive serves
    metadata as fresh as its last store.
    """

    study_uid: Uid
    owner: ClinicId | None
    revision: int
    settled: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a caller may have of a study, and whose it is for the audit trail."""

    study: OpenStudy | None
    owner: ClinicId | None


def look_up(connection: Connection, caller: Caller, study_uid: Uid, today: date) -> Verdict:
    """Decide about a study, by the same query whether it exists or not.

    Provisional, missing and deleted studies exist for nobody: the first has nothing confirmed in the
    archive yet, of the others nothing is left there to be read, or must not be.
    """
    shared = (
        exists()
        .where(
            study_access.c.study_uid == studies.c.study_uid,
            study_access.c.clinic_id.in_(sorted(caller.clinics)),
            study_access.c.until >= today,
        )
        .correlate(studies)
    )
    row = connection.execute(
        select(
            studies.c.clinic_id,
            studies.c.state,
            studies.c.revision,
            studies.c.settled,
            (studies.c.dicom_json != "").label("listed"),
            shared.label("shared"),
        ).where(studies.c.study_uid == study_uid)
    ).one_or_none()
    if row is None:
        unowned = OpenStudy(study_uid, None, 0, settled=False)
        return Verdict(unowned if caller.sees_all else None, None)
    owner = ClinicId(row.clinic_id)
    if not _may_read(caller, owner, row):
        return Verdict(None, owner)
    return Verdict(OpenStudy(study_uid, owner, row.revision, row.settled), owner)


def _may_read(caller: Caller, owner: ClinicId, row: Row[tuple[str, str, int, bool, bool, bool]]) -> bool:
    visible = row.state == "confirmed" and row.listed
    return bool(visible and (caller.sees_all or owner in caller.clinics or row.shared))


def has_series(connection: Connection, study: OpenStudy, series_uid: Uid) -> bool:
    """Whether a series belongs to the study that was authorised.

    A series without a row belongs to nothing that the importer brought in. Only in a study that the
    catalog does not know either is the archive asked.
    """
    held_by = connection.scalar(select(series.c.study_uid).where(series.c.series_uid == series_uid))
    if held_by is None:
        return study.owner is None
    return bool(held_by == study.study_uid)
