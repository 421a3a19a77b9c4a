"""Whether a study, and a series of it, exists for a caller."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Date, String, bindparam, exists, literal_column, select

from gateway.access import caller as callers
from pacs.catalog import sharing
from pacs.catalog.schema import series, studies, study_access
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Select

    from gateway.access.caller import Caller
    from gateway.identity.claims import VerifiedClaims
    from pacs.catalog import Catalog

_STATEMENTS_MAX = 64


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that this caller may read; made by `Studies` only.

    `owner` is None for a study that the catalog does not know, which is open to cross-clinic roles
    only. `revision` is the one read together with the authorisation. `settled`: the archive serves
    metadata as fresh as its last store.
    """

    study_uid: Uid
    owner: ClinicId | None
    revision: int
    settled: bool


@dataclass(frozen=True, slots=True)
class StudyDecision:
    """What a caller may have of a study, and whose it is for the audit trail."""

    caller: Caller
    study: OpenStudy | None
    owner: ClinicId | None


class Studies:
    """Decides; threads share one."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._question = lru_cache(_STATEMENTS_MAX)(lambda count: catalog.prepare(_decision(count)))

    def look_up(
        self, claims: VerifiedClaims, study_uid: Uid, series_uid: Uid | None, today: date
    ) -> StudyDecision:
        """Decide about a study, and a series if given, by the same statement whether they exist or not.

        Provisional, missing and deleted studies exist for nobody: the first has nothing confirmed in the
        archive yet, of the others nothing is left there to be read, or must not be.

        Raises:
            gateway.access.caller.RevokedError: the token was revoked.
            gateway.access.caller.NoClinicError: there is nothing that the caller could see.
        """
        asked = {"study": study_uid, "series": series_uid, "today": today}
        row = self._catalog.ask(self._question(len(claims.clinics)), callers.parameters(claims) | asked)
        caller = callers.admitted(claims, row)
        owner = ClinicId(row.clinic_id) if row.clinic_id is not None else None
        study = _study(caller, study_uid, owner, row)
        if study and series_uid and not _holds(study, row.series_of):
            study = None
        return StudyDecision(caller, study, owner)


def _decision(count: int) -> Select[*tuple[Any, ...]]:
    """All that decides for a caller of `count` clinics, in one statement.

    It is asked for every frame. Its one row is there whether the study exists or not.
    """
    study_uid = bindparam("study", type_=String)
    shared = exists().where(
        study_access.c.study_uid == study_uid,
        sharing.is_open(callers.served(count), bindparam("today", type_=Date)),
    )
    series_of = select(series.c.study_uid).where(series.c.series_uid == bindparam("series", type_=String))
    one_row = select(literal_column("1").label("one")).subquery()
    return select(
        *callers.columns(count),
        studies.c.clinic_id,
        studies.c.state,
        studies.c.revision,
        studies.c.settled,
        (studies.c.dicom_json != literal_column("''")).label("listed"),
        shared.label("shared"),
        series_of.scalar_subquery().label("series_of"),
    ).select_from(one_row.outerjoin(studies, studies.c.study_uid == study_uid))


def _study(caller: Caller, study_uid: Uid, owner: ClinicId | None, row: Any) -> OpenStudy | None:
    if owner is None:
        return OpenStudy(study_uid, None, 0, settled=False) if caller.sees_all else None
    visible = row.state == "confirmed" and row.listed
    if visible and (caller.sees_all or owner in caller.clinics or row.shared):
        return OpenStudy(study_uid, owner, row.revision, row.settled)
    return None


def _holds(study: OpenStudy, series_of: str | None) -> bool:
    """Whether the series is one of the study that was authorised.

    A series without a row belongs to nothing that the importer brought in. Only in a study that the
    catalog does not know either is the archive asked.
    """
    return study.owner is None if series_of is None else series_of == study.study_uid
