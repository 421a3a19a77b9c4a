"""`clinicpacs audit`: list, verify, export and prune the audit trail."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from sqlalchemy import func, select

from admin.auditing import export as exporting
from admin.auditing.options import LIMIT, SINCE, UNTIL, Hash
from admin.directory.events import Events
from admin.rights import needing_rights
from admin.teaching import Command, Group
from admin.terminal import (
    JSON,
    FailedError,
    UnusableError,
    console,
    counted,
    progress_bar,
    shown,
    table,
    with_platform,
)
from pacs.catalog import Catalog
from pacs.catalog import audit as trail
from pacs.catalog.audit import pruning, verification
from pacs.catalog.audit.verification import Fault
from pacs.catalog.schema import audit as audit_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rich.progress import Progress

    from admin.directory import Directory
    from admin.platform import Platform
    from pacs.catalog.audit.verification import Broken, ChainVerdict

_NOT_THE_PRUNER = (
    "this database role may not delete audit rows: set AUDIT_PRUNE_DATABASE_URL to the catalog's URL as one "
    "that may (audit_pruner)"
)


@click.group(
    cls=Group,
    invoke_without_command=True,
    examples=(
        "clinicpacs audit --limit 20",
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
    if context.invoked_subcommand is not None:
        # A command of its own has its own options, and these would be left out without a word.
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise click.UsageError("put the options behind the command: clinicpacs audit list --limit 5")
    else:
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
        for line in exporting.lines(((row, "") for row in rows), "jsonl"):
            click.echo(line)
        return
    listed = table("Audit", "when (UTC)", "who", "what", "clinic", "study", "allowed", "detail", "times")
    for row in rows:
        who = row["username"] or row["subject"]
        listed.add_row(
            f"{row['at']:%Y-%m-%d %H:%M:%S}",
            shown(str(who)),
            str(row["action"]),
            str(row["clinic_id"] or ""),
            str(row["study_uid"] or ""),
            "yes" if row["allowed"] else "no",
            shown(str(row["detail"])),
            str(row["count"]),
        )
    console().print(listed)


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
        raise FailedError(_describe(verdict, verdict.broken))
    if verdict.lost:
        raise FailedError(
            f"not part of the trail: {', '.join(sorted(verdict.lost))}; its end was cut off since, "
            f"or it was pruned (the trail begins behind row {verdict.anchor.id})"
        )
    number, newest = verdict.head
    click.echo(f"{counted(verdict.rows, 'row')} as they were written; head: row {number}, {newest}")


def _verify(platform: Platform, heads: tuple[str, ...] = ()) -> ChainVerdict:
    with platform.catalog.snapshot() as connection:
        total = connection.scalar(select(func.count()).select_from(audit_table)) or 0
        with progress_bar() as bar:
            return verification.verify(connection, heads, _advance(bar, "audit rows", total))


def _describe(verdict: ChainVerdict, broken: Broken) -> str:
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
    "--with-sign-ins",
    is_flag=True,
    help="Also sign-ins, and changes of users and groups, as Keycloak has them on record: behind the rows, "
    "newest first, without a hash.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="This file instead of stdout."
)
@with_platform
def export(
    platform: Platform,
    how: str,
    since: datetime | None,
    until: datetime | None,
    output: Path | None,
    *,
    with_sign_ins: bool,
) -> None:
    """Write the trail, oldest row first, for another program. The export itself is recorded in the trail."""
    directory = _directory(platform) if with_sign_ins else None
    detail = f"{how} since {since or 'the beginning'} until {until or 'now'}"
    with platform.recorded("export-audit", detail=detail), exporting.written(output) as file:
        number = -2 if how == "dicom" else 0  # the document's own first and last line
        with platform.catalog.snapshot() as connection:
            found = exporting.rows(connection, since, until)
            others = exporting.identity_events(directory, since, until) if directory else ()
            for line in exporting.lines(chain(found, others), how):
                file.write(f"{line}\n")
                number += 1
    if output is not None:
        click.echo(f"{counted(number, 'row')} written to {output}")


def _directory(platform: Platform) -> Directory:
    if platform.directory is None:
        raise UnusableError("no identity provider is configured: set KEYCLOAK_URL")
    return platform.directory


@audit.command(
    "sign-ins",
    cls=Command,
    examples=(
        "clinicpacs audit sign-ins --failed",
        "clinicpacs audit sign-ins --changes --since 2026-01-01 --json",
    ),
)
@click.option("--failed", "which", flag_value=Events.FAILED_SIGN_INS, help="Only those that were refused.")
@click.option(
    "--changes",
    "which",
    flag_value=Events.CHANGES,
    help="Instead, changes of users, groups, roles and settings: by our commands "
    "(service-account-clinicpacs-admin) or in Keycloak's own pages.",
)
@SINCE
@LIMIT
@JSON
@with_platform
def sign_ins(
    platform: Platform, which: str | None, since: datetime | None, limit: int, *, as_json: bool
) -> None:
    """List who signed in or tried to, newest first.

    That is on record at the identity provider, not here: in Keycloak for AUDIT_KEEP_DAYS.
    """
    found = islice(_directory(platform).events(Events(which or Events.SIGN_INS), since), limit)
    if as_json:
        for each in found:
            click.echo(json.dumps({**vars(each), "at": trail.iso_utc(each.at)}))
        return
    listed = table("Sign-ins", "when (UTC)", "who", "from", "client", "what", "outcome")
    for each in found:
        listed.add_row(
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            shown(each.username or each.user_id),
            shown(each.source),
            shown(each.client),
            shown(each.what or "sign-in"),
            shown(each.error or "done"),
        )
    console().print(listed)


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
    with closing(Catalog.connect(url)) as catalog, progress_bar() as bar, needing_rights(_NOT_THE_PRUNER):
        if found is not None:
            to, count = found
            with platform.recorded(pruning.ACTION, detail=pruning.describe(to), count=count):
                pruning.put_anchor(catalog, to, platform.now())
        return pruning.remove_covered(catalog, _advance(bar, "rows deleted", found[1] if found else 0))


def _advance(bar: Progress, what: str, total: int) -> Callable[[int], None]:
    task = bar.add_task(what, total=total or None)
    return lambda count: bar.advance(task, count)
