"""A study is deleted: it vanishes for everyone first, whatever happens then, and from the archive after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin import sharing
from admin.studies import StudyError, quiet
from pacs.catalog import transfers

if TYPE_CHECKING:
    from admin.platform import Platform
    from pacs.catalog.transfers import OwnedStudy
    from pacs.ids import Uid


def require_deletable(study: OwnedStudy) -> None:
    """Let nothing pass that is still coming.

    Raises:
        StudyError: it is.
    """
    if study.state == "provisional":
        raise StudyError(f"study {study.study_uid} of {study.owner}: its first images are being imported")


def bury(platform: Platform, study_uid: Uid) -> None:
    """Make the study exist for nobody; its UID stays its owner's. A transfer of it ends.

    Raises:
        StudyError: it cannot be now, and nothing was changed.
    """
    with quiet(platform.catalog, study_uid) as (connection, study):
        if study.state == "deleted":
            return
        found = transfers.transfer_of(connection, study_uid)
        ended = transfers.bury(connection, study, platform.now())
        details = (f"transfer from {found.from_clinic} ended" if found else "", sharing.describe(ended))
        platform.record(
            connection,
            "delete",
            clinic_id=study.owner,
            study_uid=study_uid,
            detail="; ".join(filter(None, details)),
        )


def remove(platform: Platform, study_uid: Uid) -> None:
    """Remove what the archive has of a buried study. Its owner's files of it wait until that is done.

    Raises:
        StudyError: its owner has sent it again meanwhile, or the archive goes on listing it.
        ArchiveUnavailableError: the archive gave no answer; to be repeated.
    """
    with platform.catalog.write() as connection:
        study = transfers.begin_removal(connection, study_uid, platform.now())
    if study is None:
        raise StudyError(f"study {study_uid} was sent again meanwhile: it is a study like any other now")
    platform.remover.delete(study_uid)
    if platform.archive.study(study_uid) is not None:
        raise StudyError("the archive goes on listing it: try again, or remove it in /orthanc")
    with platform.catalog.write() as connection:
        if not transfers.end_removal(connection, study):
            raise StudyError(f"study {study_uid} is being removed by another `clinicpacs delete`")
        platform.record(connection, "delete-finished", clinic_id=study.owner, study_uid=study_uid)
