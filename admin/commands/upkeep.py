"""`clinicpacs migrate` and `check`."""

from __future__ import annotations

import importlib
import importlib.util
import json
from contextlib import closing
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from admin.rights import needing_rights
from admin.teaching import Command
from admin.terminal import JSON, UnusableError, shown, with_platform
from pacs.catalog import Catalog
from pacs.settings import Settings, faults

if TYPE_CHECKING:
    from admin.platform import Platform

_NOT_THE_OWNER = "this database role does not own the catalog; in containers: docker compose run --rm migrate"
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
            with needing_rights(_NOT_THE_OWNER):
                catalog.migrate()
    # This makes and migrates an SQLite file, and checks either.
    Catalog.open(platform.settings.database_url).close()
    click.echo("the catalog is of this version")


@click.command(
    cls=Command,
    examples=(
        "clinicpacs check",
        "clinicpacs check importer",
        "clinicpacs check --json",
    ),
)
@click.argument("services", nargs=-1, type=click.Choice(list(SERVICES)))
@JSON
def check(services: tuple[str, ...], *, as_json: bool) -> None:
    """Check the settings of all services, or of those named, without starting any.

    Every fault is told at once, by the variable's name; exit code 2 if there is one.
    """
    found = {service: _faults(service) for service in services or SERVICES}
    for service, lines in found.items():
        if as_json:
            click.echo(json.dumps({"service": service, "faults": lines}))
            continue
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
