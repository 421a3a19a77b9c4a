"""`clinicpacs reindex`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.reindex import Reindex, Report, TooManyMissingError
from admin.restoring import NothingRestoredError
from admin.teaching import Command
from admin.terminal import FailedError, counted, progress_bar, with_platform
from pacs.archive import ArchiveUnavailableError
from pacs.catalog.schema import studies
from pacs.refreshing import refresh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from admin.platform import Platform
    from pacs.ids import ClinicId, Uid


@click.command(
    cls=Command, examples=("clinicpacs reindex", "clinicpacs reindex --force   # the studies are really gone")
)
@click.option("--force", is_flag=True, help="Hide what the archive lacks, even if that is most of it.")
@click.option(
    "--all",
    "anew",
    is_flag=True,
    help="Write every row anew, also those that have not changed: after image files were put back by hand, "
    "so that no outdated cached image is shown.",
)
@with_platform
def reindex(platform: Platform, *, force: bool, anew: bool) -> None:
    """Rebuild the worklist from the archive. The services may go on running.

    Every study's row is made to say what the archive says. A study that the archive no longer lists is
    hidden and keeps its owner; if that were many, nothing is hidden without --force, because a wrong or empty
    archive is likelier.

    Owners are never changed. A study without one gets back the clinic that clinicpacs wrote into its images,
    if all of its series agree and that clinic is in the catalog.

    After the loss of a whole catalog the clinics come back from the identity provider. No clinic is served,
    and its users see nothing, until this is done with all studies; if it was broken off, run it again.
    Shares, the audit trail, deleted studies and which clinics were inactive are in the backup only.
    """
    work = _work(platform, anew=anew)
    known = work.count(studies.c.state == "confirmed")
    try:
        with progress_bar() as bar:
            task = bar.add_task("studies", total=known or None)
            work.run(force=force, advance=lambda count: bar.advance(task, count))
    except TooManyMissingError as error:
        _end(platform, work.report)
        raise FailedError(
            f"{error}; nothing was hidden. Is ARCHIVE_URL {platform.settings.archive_url} the right archive? "
            "If they are really gone: clinicpacs reindex --force"
        ) from error
    except NothingRestoredError as error:
        _end(platform, work.report)
        raise FailedError(
            "the catalog has no study, and the archive gives none its owner back: no clinic is served. "
            f"Is ARCHIVE_URL {platform.settings.archive_url} the right archive? "
            "If there never was a study: clinicpacs reindex --force"
        ) from error
    except ArchiveUnavailableError:
        if work.report.listed:
            click.echo(f"broken off after {counted(work.report.listed, 'study', 'studies')}: run it again")
        _record(platform, work.report, "broken off: ")
        raise
    _end(platform, work.report)
    if work.report.unread:
        raise FailedError(
            f"the archive could not answer for {counted(work.report.unread, 'study', 'studies')}"
        )


def _work(platform: Platform, *, anew: bool) -> Reindex:
    def refresh_one(study_uid: Uid) -> bool:
        return refresh(
            platform.catalog,
            platform.archive,
            study_uid,
            stable_age_seconds=platform.settings.archive_stable_age_seconds,
            now=platform.now,
        ).listed

    def groups() -> Mapping[ClinicId, str]:
        return (
            {}
            if platform.directory is None
            else {each.id: each.name for each in platform.directory.clinics()}
        )

    return Reindex(
        catalog=platform.catalog,
        archive=platform.archive,
        refresh=refresh_one,
        groups=groups,
        record=lambda connection, action, clinic_id, study_uid: platform.record(
            connection, action, clinic_id=clinic_id, study_uid=study_uid
        ),
        stable_age_seconds=platform.settings.archive_stable_age_seconds,
        now=platform.now,
        anew=anew,
    )


def _end(platform: Platform, report: Report) -> None:
    """What became of all that the archive lists, on stdout and on record."""
    _tell(report)
    _record(platform, report)


def _tell(report: Report) -> None:
    click.echo(f"{counted(report.listed, 'study', 'studies')} in the archive")
    click.echo(f"{report.refreshed} refreshed")
    restored = f" ({', '.join(sorted(report.clinics))})" if report.clinics else ""
    click.echo(f"{report.restored} got their owner back{restored}")
    if report.served:
        click.echo(
            f"{counted(len(report.served), 'clinic')} back from the identity provider, and active: "
            f"{', '.join(report.served)}"
        )
    click.echo(f"{report.missing} no longer in the archive, hidden now")
    if report.deleted:
        click.echo(f"{report.deleted} deleted here and still in the archive, left alone")
    if report.unread:
        click.echo(f"{report.unread} that the archive could not answer for, left as they were")
    click.echo(f"{report.ownerless.total()} without an owner, seen by radiologists and administrators only")
    for reason, count in report.ownerless.most_common():
        click.echo(f"  {count}: {reason}")
    for study_uid, reason in report.examples:
        click.echo(f"    {study_uid}: {reason}")
    if report.ownerless.total() + report.unread > len(report.examples):
        click.echo("    ...")


def _record(platform: Platform, report: Report, how: str = "") -> None:
    detail = (
        f"{how}{report.refreshed} refreshed, {report.restored} restored, {report.missing} missing, "
        f"{report.ownerless.total()} ownerless"
    )
    with platform.catalog.write() as connection:
        platform.record(connection, "reindex", detail=detail)
