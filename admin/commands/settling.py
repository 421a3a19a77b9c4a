"""What `clinicpacs conflicts` can do about a study or series that is another one's."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from admin import sharing
from admin.commands.transfer import begin_transfer, finish
from admin.commands.working import require_active, work
from admin.conflict_story import consequence
from admin.conflicts import read_header
from admin.copying import Copying, copied
from admin.held import Held, held
from admin.rewriting import Rewriting
from admin.terminal import UnusableError, shown
from importer.files.failed import dismiss, put_back
from pacs.catalog.ownership import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from admin.conflicts import Conflict
    from admin.platform import Platform
    from admin.rewriting import Change
    from importer.files.failed import FailedFile
    from pacs.ids import Uid

_TO_SHARE = frozenset({Refusal.STUDY_OWNED, Refusal.SERIES_OWNED})
_TO_COPY = _TO_SHARE | {Refusal.SERIES_IN_ANOTHER_STUDY, Refusal.STUDY_OWNERLESS}


def share(platform: Platform, conflict: Conflict, until: date, *, yes: bool) -> None:
    """Open the owner's study for the clinic that sent it, too, and dismiss its files."""
    _require(conflict, _TO_SHARE, "sharing")
    study_uid = conflict.other_study_uid if conflict.series_uid else conflict.study_uid
    if study_uid is None:
        raise UnusableError(f"the study of conflict {conflict.name} no longer exists")
    _tell_what_is_not_shared(platform, conflict, study_uid)
    _ask(conflict, "share", yes=yes)
    owner = sharing.share(platform, study_uid, conflict.clinic_id, until)
    click.echo(f"study {study_uid} of {owner} is shared with {conflict.clinic_id} to the end of {until}")
    dismiss_files(platform, conflict)


def transfer(platform: Platform, conflict: Conflict, *, yes: bool) -> None:
    """Make the study the clinic's that sent it, and import its files."""
    require_active(platform, conflict.clinic_id)
    _require(conflict, frozenset({Refusal.STUDY_OWNED}), "transferring")
    _ask(conflict, "transfer", yes=yes)
    begun = begin_transfer(platform, conflict.study_uid, conflict.clinic_id)
    try:
        if begun:
            finish(platform, begun)
    finally:
        # Also what the archive has under the same UIDs: it may be another image, and the same does no harm.
        put_files_back(platform, conflict, conflict.files)


def copy(platform: Platform, conflict: Conflict, *, yes: bool) -> None:
    """Import the files under UIDs of their own."""
    require_active(platform, conflict.clinic_id)
    _require(conflict, _TO_COPY, "copying")
    _ask(conflict, "copy", yes=yes)
    headers = (read_header(platform.settings.failed_path, file) for file in conflict.files)
    copying = Copying(
        conflict.clinic_id,
        conflict.study_uid,
        copied(platform.archive, conflict, filter(None, headers)),
        platform.now().astimezone(),
    )
    replace_files(platform, conflict, copying, action="copy-conflict", done="copied into the inbox")


def reject(platform: Platform, conflict: Conflict, reason: str, *, yes: bool) -> None:
    """Dismiss the files, with the reason on record."""
    _ask(conflict, "reject", yes=yes)
    dismiss_files(platform, conflict, "reject-conflict", reason)


def _require(conflict: Conflict, refusals: frozenset[Refusal], way: str) -> None:
    if conflict.refusal not in refusals:
        raise UnusableError(f"conflict {conflict.name} ({conflict.refusal}) cannot be settled by {way}")
    if not conflict.stands:
        raise UnusableError(
            f"what was in the way of conflict {conflict.name} is gone: "
            f"clinicpacs conflicts --retry {conflict.name}"
        )


def _ask(conflict: Conflict, way: str, *, yes: bool) -> None:
    click.echo(shown(consequence(conflict, way)))
    if not yes:
        click.confirm("Go on?", abort=True)


def _tell_what_is_not_shared(platform: Platform, conflict: Conflict, study_uid: Uid) -> None:
    found = Counter(
        held(platform.archive, platform.settings.failed_path, file, study_uid) for file in conflict.files
    )
    if found[Held.LACKING]:
        click.echo(f"{_files(found[Held.LACKING])} not in the archive.")
    if found[Held.DIFFERENT]:
        click.echo(f"{_files(found[Held.DIFFERENT])} different from the archive's images.")
    if found[Held.UNKNOWN]:
        click.echo(f"Could not determine whether {_files(found[Held.UNKNOWN])} in the archive unchanged.")
    if found.total() > found[Held.SAME]:
        click.echo(
            "Whoever opens the shared study sees the owner's images, and not what is in these files. "
            "--copy keeps all."
        )


def _files(number: int) -> str:
    return f"{number} of the files {'is' if number == 1 else 'are'}"


def dismiss_files(
    platform: Platform, conflict: Conflict, action: str = "dismiss-conflict", detail: str = ""
) -> None:
    """Acknowledge all files of the conflict; they stay where they are."""
    work(
        platform,
        list(conflict.files),
        lambda file: dismiss(platform.settings.failed_path, file, platform.now()),
        action=action,
        done="dismissed",
        study_uid=conflict.study_uid,
        detail=detail,
    )


def put_files_back(platform: Platform, conflict: Conflict, files: Iterable[FailedFile]) -> None:
    """Put these files of the conflict back into the inbox."""
    settings = platform.settings
    work(
        platform,
        list(files),
        lambda file: put_back(settings.failed_path, settings.inbox_path, file),
        action="retry-conflict",
        done="put back",
        study_uid=conflict.study_uid,
    )


def replace_files(platform: Platform, conflict: Conflict, change: Change, *, action: str, done: str) -> None:
    """Put all files of the conflict, changed, into the inbox, and acknowledge each that is there."""
    settings = platform.settings
    rewriting = Rewriting(settings.failed_path, settings.inbox_path)

    def replace(file: FailedFile) -> None:
        rewriting.apply(file, change)
        dismiss(settings.failed_path, file, platform.now())

    work(platform, list(conflict.files), replace, action=action, done=done, study_uid=conflict.study_uid)
