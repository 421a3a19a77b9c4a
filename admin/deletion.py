"""A study is deleted: it vanishes for everyone first, whatever happens then, and from the archive after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.studies import StudyError, quiet
from pacs.catalog import transfers

if TYPE_CHECKING:
    from admin.platform import Platform
    from pacs.catalog.transfers import OwnedStudy
    from pacs.ids import Uid


def require_deletable(platform: Platform, study: OwnedStudy) -> None:
    """Let nothing pass that is still coming.

    Raises:
        StudyError: what is in the way.
    """
    if study.state == "provisional":
        raise StudyError(f"study {study.study_uid} of {study.owner}: its first images are being imported")
    with platform.catalog.read() as connection:
        found = transfers.transfer_of(connection, study.study_uid)
    if found:
        raise StudyError(
            f"study {study.study_uid} is on its way to {found.to_clinic}: "
            f"finish that first, by `clinicpacs transfer {study.study_uid}`"
        )


def bury(platform: Platform, study_uid: Uid) -> None:
    """Make the study exist for nobody; its UID stays its owner's.

    Raises:
        StudyError: it cannot be now, and nothing was changed.
    """
    with quiet(platform.catalog, study_uid) as (connection, study):
        if study.state == "deleted":
            return
        if transfers.transfer_of(connection, study_uid):
            raise StudyError(f"study {study_uid} is on its way to {study.owner}: finish that first")
        ended = transfers.bury(connection, study, platform.now())
        shares = ", ".join(f"{each.clinic_id} until {each.until}" for each in ended)
        platform.record(
            connection,
            "delete",
            clinic_id=study.owner,
            study_uid=study_uid,
            detail=f"shares ended: {shares}" if shares else "",
        )


def remove(platform: Platform, study_uid: Uid) -> None:
    """Remove what the archive has of a buried study.

    Raises:
        StudyError: its owner has sent it again meanwhile, or the archive goes on listing it.
        ArchiveUnavailableError: the archive gave no answer; to be repeated.
    """
    with platform.catalog.write() as connection:
        # Its owner may send it again at any moment: what is stored then must not be taken for what was there.
        study = transfers.owned(connection, study_uid, lock=True)
        if study is None or study.state != "deleted":
            raise StudyError(f"study {study_uid} was sent again meanwhile: it is a study like any other now")
        platform.remover.delete(study_uid)
        if platform.archive.study(study_uid) is not None:
            raise StudyError("the archive goes on listing it: try again, or remove it in /orthanc")
        platform.record(connection, "delete-finished", clinic_id=study.owner, study_uid=study_uid)
