"""`clinicpacs audit`: list, verify, export and prune the audit trail."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import func, select

from admin.auditing import export as exporting
from admin.auditing.options import JSON, LIMIT, SINCE, UNTIL, Hash
from admin.rights import needing_rights
from admin.teaching import Command, Group
from admin.terminal import FailedError, UnusableError, console, counted, shown, table, with_platform
from pacs.catalog import Catalog
from pacs.catalog import audit as trail
from pacs.catalog.audit import pruning, verification
from pacs.catalog.audit.verification import Fault
from pacs.catalog.schema import audit as audit_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from admin.platform import Platform
    from pacs.catalog.audit.verification import Broken, Verdict

_NOT_THE_PRUNER = (
    "this database role may not delete audit rows: set AUDIT_PRUNE_DATABASE_URL to the catalog's URL as one "
    "that may (audit_pruner)"
)


@click.group(
    cls=Group,
    invoke_without_command=True,
    examples=(
        "clinicpacs audit --limit 20",
        "clinicpacs audit --limit 100000 --json > audit.jsonl",
        "clinicpacs audit verify",
        "clinicpacs audit export --format dicom --since 2026-01-01 --output audit.xml",
    ),
)
@LIMIT
@JSON
@click.pass_context
def audit(context: click.Context, limit: int, *, as_json: bool) -> None:
    """List who did what, newest first: studies opened, searched, imported, shared; clinics and users.

    Without a command of its own this is `clinicpacs audit list`.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_rows, limit=limit, as_json=as_json)


@audit.command("list", cls=Command, examples=("clinicpacs audit list --limit 20",))
@LIMIT
@JSON
@with_platform
def list_rows(platform: Platform, limit: int, *, as_json: bool) -> None:
    """List who did what, newest first."""
    with platform.catalog.read() as connection:
        rows = trail.recent(connection, limit)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str))
        return
    told = table("Audit", "when (UTC)", "who", "what", "clinic", "study", "allowed", "detail", "times")
    for row in rows:
        who = row["username"] or row["subject"]
        told.add_row(
            f"{row['at']:%Y-%m-%d %H:%M:%S}",
            shown(str(who)),
            str(row["action"]),
            str(row["clinic_id"] or ""),
            str(row["study_uid"] or ""),
            "yes" if row["allowed"] else "no",
            shown(str(row["detail"])),
            str(row["count"]),
        )
    console().print(told)


@audit.command(
    cls=Command,
    examples=("clinicpacs audit verify", f"clinicpacs audit verify --head {'0123456789abcdef' * 4}"),
)
@click.option(
    "--head",
    "heads",
    type=Hash(),
    multiple=True,
    help="A hash from the importer's log that must be part of the trail. Can be given several times.",
)
@with_platform
def verify(platform: Platform, heads: tuple[str, ...]) -> None:
    """Say whether any row was changed, removed or added since it was written; exit code 1 if one was.

    Each row bears a hash of itself and of the hash before it, so that a change shows at its row. Where rows
    were cut off at the end, what is left is whole: the importer logs the newest hash once a day ("head of the
    audit trail"), and one from the log, or from what this command said earlier, is looked for with --head.
    """
    verdict = _verify(platform, heads)
    if verdict.left_over:
        click.echo(f"{counted(verdict.left_over, 'row')} of a pruning are left: run clinicpacs audit prune")
    if verdict.broken is not None:
        raise FailedError(_told(verdict, verdict.broken))
    if verdict.lost:
        raise FailedError(
            f"not part of the trail: {', '.join(sorted(verdict.lost))}; its end was cut off since, "
            f"or it was pruned (the trail begins behind row {verdict.anchor.id})"
        )
    number, newest = verdict.head
    click.echo(f"{counted(verdict.rows, 'row')} as they were written; head: row {number}, {newest}")


def _verify(platform: Platform, heads: tuple[str, ...] = ()) -> Verdict:
    with platform.catalog.snapshot() as connection:
        total = connection.scalar(select(func.count()).select_from(audit_table)) or 0
        with _bar() as bar:
            return verification.verify(connection, heads, _advance(bar, "audit rows", total))


def _told(verdict: Verdict, broken: Broken) -> str:
    if broken.fault is Fault.PRUNED:
        return (
            f"the rows up to {broken.last} were removed, and no row tells that `audit prune` did it; "
            f"what follows, {counted(verdict.rows, 'row')}, is as it was written"
        )
    several = broken.first != broken.last
    which = f"rows {broken.first} to {broken.last} were" if several else f"row {broken.first} was"
    what = {Fault.CHANGED: "changed", Fault.MISSING: "removed", Fault.ADDED: "added"}[broken.fault]
    return f"{which} {what}; {counted(verdict.rows, 'row')} before are as they were written"


@audit.command(
    cls=Command,
    examples=(
        "clinicpacs audit export --format dicom --since 2026-01-01 --output audit.xml",
        "clinicpacs audit export --format jsonl --since 2026-01-01 --until 2026-01-31 > january.jsonl",
    ),
)
@click.option(
    "--format",
    "how",
    type=click.Choice(exporting.FORMATS),
    default="jsonl",
    show_default=True,
    help="Audit messages of DICOM PS3.15 A.5 (XML), or JSON lines, each with its hash.",
)
@SINCE
@UNTIL
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="This file instead of stdout."
)
@with_platform
def export(
    platform: Platform, how: str, since: datetime | None, until: datetime | None, output: Path | None
) -> None:
    """Write the trail, oldest row first, for another program. That somebody did stays in the trail, too."""
    detail = f"{how} since {since or 'the beginning'} until {until or 'now'}"
    with platform.recorded("export-audit", detail=detail), exporting.written(output) as file:
        number = 0
        with platform.catalog.snapshot() as connection:
            for line in exporting.lines(exporting.rows(connection, since, until), how):
                file.write(f"{line}\n")
                number += 1
    if output is not None:
        click.echo(f"{counted(number - 2 * (how == 'dicom'), 'row')} written to {output}")


@audit.command(
    "sign-ins",
    cls=Command,
    examples=("clinicpacs audit sign-ins --failed", "clinicpacs audit sign-ins --since 2026-01-01 --json"),
)
@click.option("--failed", is_flag=True, help="Only those that were refused.")
@SINCE
@LIMIT
@JSON
@with_platform
def sign_ins(platform: Platform, since: datetime | None, limit: int, *, failed: bool, as_json: bool) -> None:
    """List who signed in or tried to, newest first.

    That is on record at the identity provider, not here, and for as long as it keeps it: Keycloak 30 days.
    """
    if platform.directory is None:
        raise UnusableError("no identity provider is configured: set KEYCLOAK_URL")
    found = platform.directory.sign_ins(since, limit, failed=failed)
    if as_json:
        for each in found:
            click.echo(json.dumps({**vars(each), "at": trail.told_time(each.at)}))
        return
    told = table("Sign-ins", "when (UTC)", "who", "from", "client", "outcome")
    for each in found:
        who, outcome = shown(each.username or each.user_id), each.error or "done"
        told.add_row(f"{each.at:%Y-%m-%d %H:%M:%S}", who, shown(each.source), shown(each.client), outcome)
    console().print(told)


@audit.command(
    cls=Command, examples=("clinicpacs audit prune --dry-run", "AUDIT_KEEP_DAYS=3650 clinicpacs audit prune")
)
@click.option("--dry-run", is_flag=True, help="Only say how many rows there are.")
@click.option("--force", is_flag=True, help="Also when the trail does not verify; export it first.")
@with_platform
def prune(platform: Platform, *, dry_run: bool, force: bool) -> None:
    """Delete rows that are older than AUDIT_KEEP_DAYS; 0 keeps all for ever.

    Number and hash of the last one stay, and the trail verifies from there on. It is verified first, so that
    nothing that somebody changed is cleared away. Safe to run again, after an interruption, too.
    """
    days = platform.settings.audit_keep_days
    if not days:
        click.echo("AUDIT_KEEP_DAYS is 0: all is kept")
        return
    if not force and not dry_run and (broken := _verify(platform).broken):
        raise FailedError(
            f"nothing was pruned: the trail does not verify ({broken.fault}, row {broken.first})"
        )
    with platform.catalog.read() as connection:
        found = pruning.prunable(connection, platform.now() - timedelta(days=days))
    if dry_run:
        click.echo(f"{counted(found[1] if found else 0, 'row')} older than {days} days would be deleted")
        return
    done = _prune(platform, found)
    click.echo(f"{counted(done, 'row')} older than {days} days deleted")


def _prune(platform: Platform, found: tuple[trail.Link, int] | None) -> int:
    settings = platform.settings
    own = settings.audit_prune_database_url
    url = own if own.get_secret_value() else settings.database_url
    with closing(Catalog.connect(url)) as catalog, _bar() as bar, needing_rights(_NOT_THE_PRUNER):
        if found is not None:
            to, count = found
            with platform.recorded(pruning.ACTION, detail=pruning.told(to), count=count):
                pruning.put_anchor(catalog, to, platform.now())
        return pruning.remove_covered(catalog, _advance(bar, "rows deleted", found[1] if found else 0))


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, console=console(stderr=True), transient=True)


def _advance(bar: Progress, what: str, total: int) -> Callable[[int], None]:
    task = bar.add_task(what, total=total or None)
    return lambda count: bar.advance(task, count)
