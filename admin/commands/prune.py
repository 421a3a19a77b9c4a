"""`clinicpacs prune`."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from admin.commands.verify import TOLD, lacking, progress, tell_of
from admin.commands.working import require_clinic
from admin.processed import clinic_folders
from admin.pruning import Order, Pruner, count_before, first_kept_day
from admin.teaching import Command
from admin.terminal import CLINIC, FailedError, counted, megabytes, with_platform
from admin.verifying.outcome import ALARMS, Outcome
from admin.verifying.verifier import Verifier
from admin.verifying.versions import Versions

if TYPE_CHECKING:
    from admin.platform import Platform
    from pacs.ids import ClinicId


class _Days(click.ParamType[int]):
    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = str(value).removesuffix("d")
        if not (number.isascii() and number.isdigit() and len(number) <= 5):  # noqa: PLR2004 - 273 years
            self.fail("a number of days is needed, such as 30d", param, ctx)
        return int(number)


@click.command(
    cls=Command,
    examples=(
        "clinicpacs prune --older-than 30d --dry-run",
        "clinicpacs prune northside --older-than 90d --superseded --yes",
    ),
)
@click.argument("clinic_id", metavar="[CLINIC]", type=CLINIC, required=False)
@click.option(
    "--older-than",
    "age_days",
    type=_Days(),
    metavar="DAYS",
    required=True,
    help="Minimum age, e.g. 30d, counted from the end of the day of filing.",
)
@click.option("--superseded", is_flag=True, help="Also files that were superseded by one that is verified.")
@click.option("--skipped", is_flag=True, help="Also files without an image, such as DICOMDIR.")
@click.option("--deleted", is_flag=True, help="Also files of deleted studies.")
@click.option("--dry-run", is_flag=True, help="Verify, and only say what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_platform
def prune(
    platform: Platform,
    /,
    clinic_id: ClinicId | None,
    age_days: int,
    *,
    dry_run: bool,
    yes: bool,
    **also: bool,
) -> None:
    """Delete old files from processed, each right after it was verified: the archive has the same.

    What is missing or different in the archive stays and is listed, and so is what is superseded, skipped or
    of a deleted study, unless an option says otherwise. What is deleted can never be imported again from
    processed (`clinicpacs refile`): have backups that hold the images.

    Exit code 1 when something is missing or different; 2 when it could not be found out.
    """
    processed = platform.settings.processed_path
    today = platform.now().astimezone().date()
    before = first_kept_day(today, age_days)
    found = {each: count_before(processed, each, before) for each in _chosen(platform, clinic_id)}
    if not any(found.values()):
        click.echo(f"no file in processed is from before {before}")
        return
    if not (dry_run or yes):
        click.confirm(
            f"Verify and delete {counted(sum(found.values()), 'file')} from before {before}?", abort=True
        )
    verifier = Verifier(platform)
    verifier.require_archive()
    outcomes = frozenset(Outcome(name) for name, wanted in also.items() if wanted)
    with closing(Versions()) as versions:
        order = Order(before, outcomes, f"{today:%Y-%m-%d}", dry_run)
        pruner = Pruner(processed, verifier, versions, order)
        pruner.read()
        sums = [_prune(platform, pruner, order, each, count) for each, count in found.items() if count]
    faults = sum(each[alarm] for each in sums for alarm in ALARMS)
    if faults:
        raise FailedError(f"{lacking(faults)}; none of these was deleted")


def _chosen(platform: Platform, clinic_id: ClinicId | None) -> list[ClinicId]:
    folders = clinic_folders(platform.settings.processed_path)
    if clinic_id is None:
        return folders
    if clinic_id not in folders:
        require_clinic(platform, clinic_id)
    return [clinic_id]


def _prune(
    platform: Platform, pruner: Pruner, order: Order, clinic_id: ClinicId, count: int
) -> Counter[Outcome]:
    """One clinic, on record before anything is deleted and with what was deleted after."""
    kept: Counter[Outcome] = Counter()

    def record(action: str, detail: str, count: int) -> None:
        if not order.dry:
            with platform.catalog.write() as connection:
                platform.record(connection, action, clinic_id=clinic_id, detail=detail, count=count)

    record("prune", f"of files from before {order.before}", count)
    try:
        with progress(clinic_id) as tell:
            for verdict in pruner.clinic(clinic_id, lambda done: tell(done, count)):
                kept[verdict.outcome] += 1
                tell_of(verdict, as_json=False)
    finally:
        files = pruner.files[clinic_id]
        record("pruned", f"{counted(files, 'file')} deleted", files)
        deleted = f"{counted(files, 'file')} ({megabytes(pruner.bytes[clinic_id])})"
        verb = "would be deleted" if order.dry else "deleted"
        stay = [f"{kept[outcome]} {name}" for outcome, name in TOLD.items() if kept[outcome]]
        staying = f"; {', '.join(stay)} stay" if stay else ""
        click.echo(f"{clinic_id}: {deleted} {verb}{staying}")
    return kept
