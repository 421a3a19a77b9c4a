"""A study passes to another clinic: first in the catalog, then image by image in the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from admin import sharing
from admin.retagging import Tagging
from admin.studies import StudyError, owned, quiet, require_confirmed, require_served
from pacs.catalog import transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from admin.platform import Platform
    from pacs.catalog.sharing import Share
    from pacs.catalog.transfers import OwnedStudy, Transfer
    from pacs.ids import ClinicId, Uid


class Begun(NamedTuple):
    """The study is the new owner's; `ended` are the shares that it had."""

    transfer: Transfer
    ended: list[Share]


def begin(platform: Platform, study_uid: Uid, to_clinic: ClinicId) -> Begun | None:
    """Make the study another clinic's; None when it is that already, with nothing left to do.

    Raises:
        StudyError: it cannot be, and nothing was changed.
        ArchiveUnavailableError: likewise.
    """
    with platform.catalog.read() as connection:
        require_served(connection, to_clinic)
        study = owned(connection, study_uid)
        found = transfers.transfer_of(connection, study_uid)
    if study.owner == to_clinic:
        return Begun(found, []) if found else None
    require_confirmed(study)
    if platform.archive.overwrites() is False:
        raise StudyError(
            "the archive keeps the old bytes of an image that is stored again, and so its old owner: "
            "set OverwriteInstances to true"
        )
    with quiet(platform.catalog, study_uid) as (connection, study):
        require_confirmed(study)
        ended = _pass_on(platform, connection, study, to_clinic)
        begun = transfers.transfer_of(connection, study_uid)
    return Begun(begun, ended) if begun else None


def _pass_on(
    platform: Platform, connection: Connection, study: OwnedStudy, to_clinic: ClinicId
) -> list[Share]:
    ended = transfers.begin(connection, study, to_clinic, platform.now())
    platform.record(
        connection,
        "transfer",
        clinic_id=study.owner,
        study_uid=study.study_uid,
        detail="; ".join(filter(None, (f"to {to_clinic}", sharing.describe(ended)))),
    )
    return ended


def go_on(platform: Platform, transfer: Transfer, advance: Callable[[int], None] = lambda _: None) -> int:
    """Tag all images that still say that they are another clinic's; returns how many.

    Raises:
        admin.retagging.TransferError: something is in the way.
        admin.retagging.StudyGoneError: it is no longer this transfer's.
        ArchiveUnavailableError: the archive gave no answer.
        OSError: there is no room for a file.
    """
    settings = platform.settings
    settings.data_path.mkdir(parents=True, exist_ok=True)
    tagged = Tagging(
        transfer,
        platform.catalog,
        platform.archive,
        settings.data_path,
        settings.archive_stable_age_seconds,
        platform.now,
        advance,
    ).run()
    with platform.catalog.write() as connection:
        if transfers.finish(connection, transfer):
            platform.record(
                connection,
                "transfer-finished",
                clinic_id=transfer.to_clinic,
                study_uid=transfer.study_uid,
                detail=f"from {transfer.from_clinic}",
                count=max(1, tagged),
            )
    return tagged
