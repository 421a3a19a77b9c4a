"""Whose an image and a study are, by what clinicpacs itself wrote into each image when it was tagged.

For studies that the archive has and the catalog does not know: `clinicpacs reindex` gives them their owners
back, and the importer lets nobody have another one's. Both decide here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs import MODIFYING_SYSTEM
from pacs.archive.model import text, values
from pacs.catalog import ownership
from pacs.catalog.ownership import Claim, Granted
from pacs.ids import ClinicId, InvalidClinicIdError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from pacs.archive import Archive, ArchivedStudy
    from pacs.archive.model import DicomJson

_INSTITUTION_NAME = "00080080"
_MODIFIED_ATTRIBUTES_SEQUENCE = "04000550"
_ORIGINAL_ATTRIBUTES_SEQUENCE = "04000561"
_MODIFYING_SYSTEM = "04000563"
_PATIENT_ID = "00100020"


class NotRestorableError(Exception):
    """Why a study stays without an owner."""


def owner_of(archive: Archive, study: ArchivedStudy) -> ClinicId:
    """The clinic that the first images of all of a study's series lead to.

    Raises:
        NotRestorableError: there is none.
        ArchiveUnavailableError: the archive gave no answer.
    """
    if len(study.series_uids) != len(study.series):
        raise NotRestorableError("the archive lists a series without a UID")
    histories = [
        written_owners(archive.first_instance_metadata(study.study_uid, series_uid))
        for series_uid in study.series_uids
    ]
    if () in histories:
        raise NotRestorableError("not all of its series were stored through clinicpacs")
    owner = agreed_owner(histories)
    if owner is None:
        raise NotRestorableError("its series name different clinics")
    return owner


def give_back(connection: Connection, study: ArchivedStudy, owner: ClinicId, now: datetime) -> None:
    """Reserve all of a study of the archive for its owner, in a write transaction.

    Raises:
        NotRestorableError: the catalog says otherwise; the transaction is not to be committed then.
    """
    # The same reservation as for a file, so that whoever came first stays the owner.
    # As the archive has it: it was reserved so (`importer.dicom.text`).
    patient_id = study.text(_PATIENT_ID)
    for series_uid in study.series_uids:
        verdict = ownership.reserve(connection, Claim(owner, study.study_uid, series_uid, patient_id), now)
        if verdict is not Granted.OWNED:
            raise NotRestorableError(f"the catalog says: {verdict}")


def written_owner(metadata: DicomJson | None) -> ClinicId | None:
    """The clinic that clinicpacs itself wrote into an instance; None when somebody else wrote last."""
    history = values(metadata, _ORIGINAL_ATTRIBUTES_SEQUENCE)
    if not history or not _is_ours(history[-1]):
        return None
    try:
        return ClinicId(text(metadata, _INSTITUTION_NAME).strip())
    except InvalidClinicIdError:
        return None


def written_owners(metadata: DicomJson | None) -> tuple[str, ...]:
    """The clinics that an instance was tagged for, one after another; none when somebody else wrote last."""
    owner = written_owner(metadata)
    if owner is None:
        return ()
    replaced = [
        text(before, _INSTITUTION_NAME).strip()
        for item in values(metadata, _ORIGINAL_ATTRIBUTES_SEQUENCE)
        if _is_ours(item)
        for before in values(item, _MODIFIED_ATTRIBUTES_SEQUENCE)
        if isinstance(before, dict) and _INSTITUTION_NAME in before
    ]
    # What the first one replaced was the device's own.
    return (*replaced[1:], owner)


def agreed_owner(histories: Sequence[tuple[str, ...]]) -> ClinicId | None:
    """The clinic that `written_owners` of a study's instances lead to; None when they contradict each other.

    In the middle of a transfer some say that they are the old owner's still: those that have gone less far on
    the same way. The old owner has no right to the study any more.
    """
    longest = max(histories, key=len, default=())
    same_end = {owners[-1:] for owners in histories} == {longest[-1:]}
    one_way = all(owners and owners == longest[: len(owners)] for owners in histories)
    return ClinicId(longest[-1]) if longest and (same_end or one_way) else None


def _is_ours(item: object) -> bool:
    return text(item, _MODIFYING_SYSTEM).strip() == MODIFYING_SYSTEM
