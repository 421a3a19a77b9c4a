"""`clinicpacs migrate`, `check` and `audit`."""

from __future__ import annotations

import importlib
import importlib.util
import json
from contextlib import closing
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from admin.teaching import Command
from admin.terminal import UnusableError, console, shown, table, with_platform
from pacs.catalog import Catalog
from pacs.catalog import audit as audit_trail
from pacs.settings import Settings, faults

if TYPE_CHECKING:
    from admin.platform import Platform

SERVICES = {
    "admin": ("admin.settings", "AdminSettings"),
    "importer": ("importer.settings", "ImporterSettings"),
    "gateway": ("gateway.settings", "GatewaySettings"),
}


@click.command(
    cls=Command, examples=("DATABASE_URL=postgresql+psycopg://pacs:...@db/pacs clinicpacs migrate",)
)
@with_platform
def migrate(platform: Platform) -> None:
    """Bring the catalog to this version.

    Needed for PostgreSQL, before the services start; SQLite does it by itself. Safe to run again, and by
    several at once. A catalog of a newer version is refused with exit code 2.
    """
    with closing(Catalog.connect(platform.settings.database_url)) as catalog:
        if not catalog.is_sqlite:
            catalog.migrate()
    # This makes and migrates an SQLite file, and checks either.
    Catalog.open(platform.settings.database_url).close()
    click.echo("the catalog is of this version")


@click.command(
    cls=Command,
    examples=(
        "clinicpacs check",
        "clinicpacs check importer",
    ),
)
@click.argument("services", nargs=-1, type=click.Choice(list(SERVICES)))
def check(services: tuple[str, ...]) -> None:
    """Check the settings of all services, or of those named, without starting any.

    Every fault is told at once, by the variable's name; exit code 2 if there is one.
    """
    found = {service: _faults(service) for service in services or SERVICES}
    for service, lines in found.items():
        for line in lines or ["settings are fine"]:
            click.echo(shown(f"{service}: {line}"), err=bool(lines))
    if any(found.values()):
        raise click.exceptions.Exit(UnusableError.exit_code)


def _faults(service: str) -> list[str]:
    module, name = SERVICES[service]
    cls: type[Settings] = getattr(importlib.import_module(module), name)
    try:
        cls()
    except ValidationError as error:
        return faults(error)
    return []


@click.command(
    cls=Command,
    examples=(
        "clinicpacs audit --limit 20",
        "clinicpacs audit --limit 100000 --json > audit.jsonl",
    ),
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="So many rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_platform
def audit(platform: Platform, limit: int, *, as_json: bool) -> None:
    """List who did what, newest first: studies opened, refused and shared, clinics and users changed."""
    with platform.catalog.read() as connection:
        rows = audit_trail.recent(connection, limit)
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
