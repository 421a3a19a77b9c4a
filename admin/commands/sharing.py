"""`clinicpacs share`, `unshare` and `shares`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from admin import sharing
from admin.commands.working import require_clinic
from admin.teaching import Command
from admin.terminal import CLINIC, DAY, JSON, UID, UnusableError, console, counted, table, with_platform
from pacs.catalog.sharing import shares as all_shares
from pacs.ids import ClinicId, InvalidClinicIdError, Uid

if TYPE_CHECKING:
    from datetime import date

    from admin.platform import Platform
    from pacs.catalog.sharing import Share

_WORDS = "STUDY_UID"


@click.command(
    cls=Command,
    examples=(
        "clinicpacs share 1.2.840.99.7 --with southside --until 2031-12-31",
        "clinicpacs share 1.2.840.99.7 --with southside --until 2032-01-31   # longer",
    ),
)
@click.argument("study_uid", metavar=_WORDS, type=UID)
@click.option(
    "--with",
    "clinic_id",
    metavar="CLINIC",
    type=CLINIC,
    required=True,
    help="Clinic that may also read the study.",
)
@click.option(
    "--until", metavar="DAY", type=DAY, required=True, help="Last day of the share, e.g. 2026-12-31 (in TZ)."
)
@with_platform
def share(platform: Platform, study_uid: Uid, clinic_id: ClinicId, until: date) -> None:
    """Let a second clinic's users read a study, to the end of a day. It counts at once.

    They see that one study in their list, with all of its series, and nothing else of its owner or patient.
    The study stays its owner's. To share it again changes the day.
    """
    owner = sharing.share(platform, study_uid, clinic_id, until)
    click.echo(f"study {study_uid} of {owner} is shared with {clinic_id} to the end of {until}")


@click.command(
    cls=Command,
    examples=(
        "clinicpacs unshare 1.2.840.99.7 --with southside",
        "clinicpacs unshare 1.2.840.99.7",
        "clinicpacs unshare --expired",
    ),
)
@click.argument("study_uid", metavar=f"[{_WORDS}]", type=UID, required=False)
@click.option("--with", "clinic_id", metavar="CLINIC", type=CLINIC, help="With that clinic only.")
@click.option("--expired", is_flag=True, help="Remove all expired shares.")
@with_platform
def unshare(platform: Platform, study_uid: Uid | None, clinic_id: ClinicId | None, *, expired: bool) -> None:
    """End a share, or all shares of a study. It counts at once."""
    if expired == (study_uid is not None) or (expired and clinic_id):
        raise click.UsageError("give either a STUDY_UID or --expired")
    ended = sharing.clean(platform) if study_uid is None else sharing.unshare(platform, study_uid, clinic_id)
    for each in ended:
        click.echo(f"study {each.study_uid} is no longer shared with {each.clinic_id}")
    if expired:
        click.echo(f"{counted(len(ended), 'share')} removed")
    elif not ended:
        raise UnusableError(f"study {study_uid} is not shared{f' with {clinic_id}' if clinic_id else ''}")


@click.command(
    cls=Command,
    examples=(
        "clinicpacs shares",
        "clinicpacs shares southside",
        "clinicpacs shares 1.2.840.99.7",
        "clinicpacs shares --json | jq 'select(.over)'",
    ),
)
@click.argument("of", metavar="[CLINIC|STUDY_UID]", required=False)
@JSON
@with_platform
def shares(platform: Platform, of: str | None, *, as_json: bool) -> None:
    """List what is shared with whom, and until when: all, or what one clinic gives and gets, or of one study.

    Those that are over are listed, too, until `clinicpacs unshare --expired`.
    """
    wanted = _parsed(platform, of) if of else None
    with platform.catalog.read() as connection:
        found = all_shares(connection, wanted)
    if as_json:
        today = sharing.today(platform)
        for each in found:
            click.echo(json.dumps({**vars(each), "until": f"{each.until}", "over": each.until < today}))
    elif found:
        _tell(platform, found)
    else:
        click.echo("nothing is shared")


def _parsed(platform: Platform, of: str) -> ClinicId | Uid:
    # A UID without a dot could be a clinic's name; none that a device makes is.
    if "." in of:
        return Uid(of)
    try:
        return require_clinic(platform, ClinicId(of)).id
    except InvalidClinicIdError:
        return Uid(of)


def _tell(platform: Platform, found: list[Share]) -> None:
    today = sharing.today(platform)
    listed = table("Shares", "study", "of", "with", "until", "")
    for each in found:
        over = "over" if each.until < today else ""
        listed.add_row(each.study_uid, each.owner, each.clinic_id, f"{each.until}", over)
    console().print(listed)
