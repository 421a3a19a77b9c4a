"""`clinicpacs apply-realm`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from admin.directory import realm
from admin.teaching import Command
from admin.terminal import UnusableError, shown, with_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from admin.platform import Platform


@click.command("apply-realm", cls=Command, examples=("clinicpacs apply-realm",))
@with_platform
def apply_realm(platform: Platform) -> None:
    """Bring Keycloak's realm in line with .env.

    Keycloak reads the realm file once. This changes what .env says otherwise since: the platform's address in
    the clients, their secrets, the life of access tokens, and for how long events are kept. Nothing else is
    touched. `make up` runs it.
    """
    settings = platform.settings
    password = settings.keycloak_admin_password.get_secret_value()
    if settings.keycloak_url is None or not password:
        raise UnusableError("KEYCLOAK_URL and KEYCLOAK_ADMIN_PASSWORD are needed")
    wanted = realm.keeping_events(
        realm.wanted(settings.keycloak_realm_file, os.environ), settings.audit_keep_days
    )

    @contextmanager
    def recording(change: str) -> Iterator[None]:
        with platform.recorded("apply-realm", detail=change):
            yield
        click.echo(shown(f"changed in Keycloak: {change}"))

    if not realm.apply(str(settings.keycloak_url), password, wanted, recording):
        click.echo("Keycloak's realm is in line with .env")
