"""The worklist: one row a study, as the archive described it last."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import case, false, select, update

from pacs.catalog import ownership, prepared, terms
from pacs.catalog.engine import CatalogUnavailableError
from pacs.catalog.inserting import insert_if_absent
from pacs.catalog.schema import series, studies
from pacs.text import fold

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.archive import ArchivedStudy, ListedStudy
    from pacs.ids import Uid

# The forms with dots and colons are ACR-NEMA's (PS3.5 section 6.2, notes of DA and TM).
_DATE = re.compile(r"[0-9]{4}(\.?)[0-9]{2}\1[0-9]{2}")
_TIME = re.compile(r"[0-9]{2,6}(\.[0-9]{1,6})?|[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")


class Standing(NamedTuple):
    """How a study's row stood before the archive was asked."""

    marks: int
    revision: int
    patient_id: str
    clinic_id: str


def standing(connection: Connection, study_uid: Uid) -> Standing | None:
    """To be read before the archive is asked; None for a study that nobody owns."""
    row = connection.execute(
        select(studies.c.marked, studies.c.revision, studies.c.patient_id, studies.c.clinic_id).where(
            studies.c.study_uid == study_uid
        )
    ).first()
    return None if row is None else Standing(row.marked, row.revision, row.patient_id, row.clinic_id)


class OvertakenError(CatalogUnavailableError):
    """Someone else wrote the row since it was looked at: whose answer is the newer one, nobody knows."""


def record(
    connection: Connection,
    archived: ArchivedStudy,
    before: Standing,
    *,
    clean: bool,
    now: datetime,
    settles_at: datetime,
) -> None:
    """Write what the archive answered and raise the revision; a deleted study stays deleted.

    `before` is what `standing` said before the archive was asked. With `clean` the study counts as
    refreshed up to there; without, more of its files are coming and it stays dirty.

    Raises:
        OvertakenError: the row is not as it was before; nothing was changed.
    """
    values = {
        "state": "confirmed",
        "settled": False,
        "settles_at": settles_at,
        **columns(owned_by(archived, before.clinic_id), before.patient_id),
    }
    states = ("provisional", "confirmed", "missing")
    if not _advance(connection, archived.study_uid, before, states, values, clean=clean, now=now):
        return
    owner = connection.scalar(select(studies.c.clinic_id).where(studies.c.study_uid == archived.study_uid))
    for each in archived.series_uids:
        insert_if_absent(
            connection, series, series_uid=each, study_uid=archived.study_uid, clinic_id=owner, confirmed=True
        )
    ownership.confirm(connection, archived.study_uid, archived.series_uids, now)


def record_missing(
    connection: Connection, study_uid: Uid, before: Standing, *, clean: bool, now: datetime
) -> None:
    """The archive no longer lists the study: hide it; its owner keeps it. Otherwise as `record`."""
    states, values = ("confirmed", "missing"), {"state": "missing"}
    _advance(connection, study_uid, before, states, values, clean=clean, now=now)


def touch(connection: Connection, study_uid: Uid, now: datetime, *, gone: bool = False) -> None:
    """Somebody changes the archive's copy past the importer: what is kept of it is never found again.

    With `gone` the archive has it no more: it is hidden until a refresh finds it. A deleted study stays as it
    is: who removes it counts its marks (`pacs.catalog.transfers.end_removal`).
    """
    state = case((studies.c.state == "confirmed", "missing"), else_=studies.c.state)
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid, studies.c.state != "deleted")
        .values(
            revision=ownership.revision_after(studies.c.revision, now),
            marked=studies.c.marked + 1,
            settled=false(),
            changed_at=now,
            **({"state": state} if gone else {}),
        )
    )


def _advance(
    connection: Connection,
    study_uid: Uid,
    before: Standing,
    states: tuple[str, ...],
    values: dict[str, Any],
    *,
    clean: bool,
    now: datetime,
) -> bool:
    refreshed = {"refreshed": before.marks} if clean else {}
    changed = connection.execute(
        update(studies)
        .where(
            studies.c.study_uid == study_uid,
            studies.c.revision == before.revision,
            studies.c.state.in_(states),
        )
        .values(
            revision=ownership.revision_after(before.revision, now), changed_at=now, **values, **refreshed
        )
    )
    if not changed.rowcount:
        after = standing(connection, study_uid)
        if after is not None and after.revision != before.revision:
            raise OvertakenError("a study's row was written by someone else meanwhile")
    return changed.rowcount > 0


_Study = TypeVar("_Study", bound="ListedStudy")


def owned_by(archived: _Study, clinic_id: str) -> _Study:
    """The same with the owner for InstitutionName (0008,0080), as all of its images say.

    Orthanc tells the first image's of when the study was new, also when that one is tagged anew since
    (measured, 1.12.7): after a transfer the old owner's.
    """
    owner = {"00080080": {"vr": "LO", "Value": [clinic_id]}}
    return replace(archived, dicom_json=archived.dicom_json | owner)


def columns(archived: ListedStudy, patient_id: str) -> dict[str, Any]:
    """What is written of one study.

    `patient_id` is the reserved one, which is not written here but found by its terms, too.
    """
    found = searched(archived)
    return found | {
        "terms": terms.of_row(found | {"patient_id": patient_id}),
        "dicom_json": prepared.prepare(archived.study_uid, archived.dicom_json, found),
    }


def searched(archived: ListedStudy) -> dict[str, Any]:
    """The searchable columns of one study; what is not in the form that its VR demands stays empty."""
    text = archived.text
    return {
        "study_date": _date(text("00080020")),
        "study_time": _time(text("00080030")),
        "study_id": _plain(text("00200010")),
        "accession_number": _plain(text("00080050")),
        "patient_name_key": _name_key(archived.person_name("00100010")),
        "patient_birth_date": _date(text("00100030")),
        "patient_sex": _plain(text("00100040")),
        "study_description_key": fold(text("00081030")),
        "referring_physician_key": _name_key(archived.person_name("00080090")),
        "modalities": "".join(f"\\{modality}" for modality in archived.modalities)
        + ("\\" if archived.modalities else ""),
        "series_count": archived.series_count,
        "instance_count": archived.instance_count,
    }


def _name_key(groups: tuple[str, ...]) -> str:
    r"""Component groups between newlines, `\nalphabetic\nideographic\n`: a query can match one whole.

    Devices differ in whether they write the empty components at the end (PS3.5 section 6.2.1).
    """
    return "".join(f"\n{fold(group).rstrip('^ ')}" for group in groups) + "\n"


def _plain(text: str) -> str:
    return text.replace("\0", "")


def _date(text: str) -> str:
    return text.replace(".", "") if _DATE.fullmatch(text) else ""


def _time(text: str) -> str:
    return text.replace(":", "") if _TIME.fullmatch(text) else ""
