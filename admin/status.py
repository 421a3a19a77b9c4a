"""What runs, what waits and what is stuck, gathered from all four stores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import case, func, make_url, select

from admin.directory import DirectoryError
from admin.inboxes import waiting
from importer.files.failed import failed_files
from importer.inbox.look import InboxUnavailableError, Strangers, strangers
from pacs.archive import ArchiveUnavailableError
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics, imports, transfers
from pacs.catalog.schema import studies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from admin.platform import Platform
    from pacs.catalog.clinics import Clinic
    from pacs.catalog.transfers import Unfinished
    from pacs.ids import ClinicId

_PATIENCE_SECONDS = 5.0
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Part:
    """One of the parts that commands need.

    Attributes:
        name: `catalog`, `inbox`, `archive` or `identity`.
        is_up: whether it answers; True for an identity provider that is not configured.
        told: which one it is, or what is wrong.
    """

    name: str
    is_up: bool
    told: str


@dataclass(frozen=True)
class Studies:
    """How many studies of a clinic are in which state.

    Attributes:
        confirmed: in the archive and in the lists.
        provisional: reserved; none of their images is confirmed yet.
        dirty: their row may be behind the archive; the importer refreshes it.
        missing: no longer in the archive; hidden.
    """

    confirmed: int = 0
    provisional: int = 0
    dirty: int = 0
    missing: int = 0


@dataclass(frozen=True)
class ClinicStatus:
    """One clinic.

    Attributes:
        waiting_files: in its inbox.
        oldest_waiting_seconds: how long the longest waiting one has been there.
        failed_files: that nobody has dismissed.
        last_import: when a file was stored last.
        fault: why its folders could not be read; the numbers of files are 0 then.
    """

    id: ClinicId
    name: str
    active: bool
    studies: Studies
    waiting_files: int
    oldest_waiting_seconds: float | None
    failed_files: int
    last_import: datetime | None
    fault: str | None


@dataclass(frozen=True)
class Status:
    """Everything; `strangers` lie in the inbox, belong to no clinic and are left alone.

    Files of the studies that are `unfinished` wait.
    """

    parts: tuple[Part, ...]
    clinics: tuple[ClinicStatus, ...]
    strangers: Strangers
    unfinished: Unfinished


def gather(platform: Platform) -> Status:
    """Ask all parts.

    Raises:
        CatalogError: without a catalog there is nothing to tell.
    """
    with platform.catalog.read() as connection:
        known = clinics.all_clinics(connection)
        counts = _studies(connection)
        totals = imports.totals_since(connection, _EPOCH)
        unfinished = transfers.unfinished(connection)
    last = {clinic: at for (clinic, outcome), (_, at) in totals.items() if outcome == "stored"}
    url = make_url(platform.settings.database_url.get_secret_value())
    inbox, found = _inbox(platform, {clinic.id for clinic in known})
    return Status(
        parts=(
            Part("catalog", True, url.render_as_string(hide_password=True)),
            inbox,
            _archive(platform, sum(each.confirmed for each in counts.values())),
            _identity(platform),
        ),
        clinics=tuple(_clinic(platform, clinic, counts, last) for clinic in known),
        strangers=found,
        unfinished=unfinished,
    )


def _studies(connection: Connection) -> dict[str, Studies]:
    is_dirty = case((studies.c.marked > studies.c.refreshed, 1), else_=0)
    rows = connection.execute(
        select(studies.c.clinic_id, studies.c.state, func.count(), func.sum(is_dirty)).group_by(
            studies.c.clinic_id, studies.c.state
        )
    )
    counts: dict[str, dict[str, int]] = {}
    for clinic_id, state, count, dirty in rows:
        of_clinic = counts.setdefault(clinic_id, {"dirty": 0})
        if state != "deleted":
            of_clinic["dirty"] += int(dirty)
            of_clinic[state] = int(count)
    return {clinic_id: Studies(**of_clinic) for clinic_id, of_clinic in counts.items()}


def _inbox(platform: Platform, known: set[ClinicId]) -> tuple[Part, Strangers]:
    inbox = platform.settings.inbox_path
    try:
        return Part("inbox", True, str(inbox)), strangers(inbox, known)
    except InboxUnavailableError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError) and not known:
            return Part("inbox", True, f"{inbox}: not made yet, there is no clinic"), Strangers()
        reason = cause.strerror if isinstance(cause, OSError) else "cannot be read"
        return Part("inbox", False, f"{inbox}: {reason}"), Strangers()


def _archive(platform: Platform, known: int) -> Part:
    settings = platform.settings
    patience = min(_PATIENCE_SECONDS, settings.archive_timeout_seconds)
    archive = DicomWebArchive(settings.model_copy(update={"archive_timeout_seconds": patience}))
    try:
        is_empty = archive.is_empty()
        overwrites = archive.overwrites()
    except ArchiveUnavailableError as error:
        return Part("archive", False, f"{settings.archive_url}: {error.reason}")
    finally:
        archive.close()
    told = settings.archive_url
    if is_empty and known:
        told += f"; lists no study, the catalog knows {known}: is this the right archive?"
    if overwrites is False:
        told += "; keeps the old image when a corrected one comes: set OverwriteInstances"
    return Part("archive", not (is_empty and known), told)


def _identity(platform: Platform) -> Part:
    try:
        directory = platform.directory
        return Part("identity", True, "none configured" if directory is None else directory.check())
    except DirectoryError as error:
        return Part("identity", False, str(error))


def _clinic(
    platform: Platform, clinic: Clinic, counts: Mapping[str, Studies], last: Mapping[str, datetime]
) -> ClinicStatus:
    settings = platform.settings
    files, oldest, failed, fault = 0, None, 0, None
    try:
        queue = waiting(settings.inbox_path, clinic.id)
        files = queue.files
        if queue.since is not None:
            oldest = max(0.0, platform.now().timestamp() - queue.since)
        failed = sum(not file.dismissed for file in failed_files(settings.failed_path, clinic.id))
    except OSError as error:
        fault = f"{error.filename or 'folder'}: {error.strerror}"
    return ClinicStatus(
        id=clinic.id,
        name=clinic.name,
        active=clinic.active,
        studies=counts.get(clinic.id, Studies()),
        waiting_files=files,
        oldest_waiting_seconds=oldest,
        failed_files=failed,
        last_import=last.get(clinic.id),
        fault=fault,
    )
