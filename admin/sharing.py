"""A study is shared with a second clinic, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.studies import StudyError, owned, require_confirmed, require_served
from pacs.catalog import sharing

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection

    from admin.platform import Platform
    from pacs.catalog.sharing import Share
    from pacs.ids import ClinicId, Uid


def today(platform: Platform) -> date:
    """The day in TZ, with which shares end."""
    return platform.now().astimezone().date()


def share(platform: Platform, study_uid: Uid, clinic_id: ClinicId, until: date) -> ClinicId:
    """Let a clinic read a study to the end of that day; returns the study's owner.

    Raises:
        StudyError: it cannot be shared so, and nothing was changed.
    """
    if until < today(platform):
        raise StudyError(f"{until} is in the past: a share lasts to the end of its last day")
    with platform.catalog.write() as connection:
        require_served(connection, clinic_id)
        study = owned(connection, study_uid, lock=True)
        require_confirmed(study)
        if study.owner == clinic_id:
            raise StudyError(f"study {study_uid} is {clinic_id}'s own")
        sharing.share(connection, study_uid, clinic_id, until)
        platform.record(
            connection,
            "share",
            clinic_id=study.owner,
            study_uid=study_uid,
            detail=f"with {clinic_id} until {until}",
        )
    return study.owner


def describe(ended: list[Share]) -> str:
    """Shares that ended with something else, for its audit row; empty without any."""
    shares = ", ".join(f"{each.clinic_id} until {each.until}" for each in ended)
    return f"shares ended: {shares}" if shares else ""


def unshare(platform: Platform, study_uid: Uid, clinic_id: ClinicId | None) -> list[Share]:
    """End what one clinic, or every one, was given of a study; returns what there was."""
    with platform.catalog.write() as connection:
        ended = sharing.unshare(connection, study_uid, clinic_id)
        _record_ended(platform, connection, ended)
    return ended


def clean(platform: Platform) -> list[Share]:
    """Forget the shares that are over; returns them."""
    with platform.catalog.write() as connection:
        ended = sharing.clean(connection, today(platform))
        _record_ended(platform, connection, ended)
    return ended


def _record_ended(platform: Platform, connection: Connection, ended: list[Share]) -> None:
    for each in ended:
        detail = f"with {each.clinic_id}, was until {each.until}"
        platform.record(connection, "unshare", clinic_id=each.owner, study_uid=each.study_uid, detail=detail)
