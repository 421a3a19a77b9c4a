"""`clinicpacs add-clinic` and `deactivate-clinic`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.clinics import make_inbox
from admin.commands.working import require_clinic
from admin.directory import DirectoryError, Outcome
from admin.teaching import Command
from admin.terminal import CLINIC, UnusableError, counted, shown, with_platform
from pacs.catalog import clinics

if TYPE_CHECKING:
    from admin.platform import Platform
    from pacs.ids import ClinicId

_NAME_MAX = 120


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    name = " ".join(value.split())
    if not name or len(name) > _NAME_MAX or not name.isprintable():
        raise click.BadParameter(f"a clinic's name has 1 to {_NAME_MAX} printable characters")
    return name


@click.command(
    "add-clinic",
    cls=Command,
    examples=(
        'clinicpacs add-clinic northside "Northside Clinic"',
        'clinicpacs add-clinic radiology-west "Radiology West"',
    ),
)
@click.argument("clinic_id", metavar="ID", type=CLINIC)
@click.argument("name", callback=_name)
@with_platform
def add_clinic(platform: Platform, clinic_id: ClinicId, name: str) -> None:
    """Add a clinic: to the catalog, its inbox folder, its group in the identity provider.

    ID is for folders and addresses: lower-case letters, digits and hyphens. It stays for ever, because the
    clinic's images carry it. NAME is for people and may be changed by running the command again.

    The inbox is writable for its group, and so is what other users of that group make in it. The importer
    serves it within 30 seconds, without a restart. With no identity provider configured the clinic's group
    of users is left out. Run the command again to mend either.
    """
    _ = platform.catalog  # a catalog that cannot be used leaves no folder behind
    inbox = make_inbox(platform.settings.inbox_path, clinic_id)
    click.echo(f"{clinic_id}: {_to_catalog(platform, clinic_id, name)}")
    click.echo(shown(f"{clinic_id}: inbox {inbox.folder} {'made' if inbox.made else 'was there'}"))
    for note in inbox.notes:
        click.echo(shown(f"{clinic_id}: inbox: {note}"))
    click.echo(f"{clinic_id}: {_to_directory(platform, clinic_id, name)}")


def _to_catalog(platform: Platform, clinic_id: ClinicId, name: str) -> str:
    with platform.catalog.write() as connection:
        before = clinics.find(connection, clinic_id)
        clinics.add(connection, clinic_id, name, platform.now())
        if before is None:
            told = "added to the catalog"
        elif not before.active:
            told = "active again"
        elif before.name != name:
            told = f"renamed from {before.name!r} to {name!r}"
        else:
            told = "was in the catalog"
        platform.record(connection, "add-clinic", clinic_id=clinic_id, detail=told)
    return told


def _to_directory(platform: Platform, clinic_id: ClinicId, name: str) -> str:
    try:
        if platform.directory is None:
            return "no identity provider is configured, so no group was made for its users"
        outcome = platform.directory.ensure_clinic(clinic_id, name)
    except DirectoryError as error:
        raise UnusableError(
            f"catalog and inbox of {clinic_id} are done, its group is not: {error}; "
            "run the same command again"
        ) from error
    told = {Outcome.ADDED: "made", Outcome.CHANGED: "renamed", Outcome.UNCHANGED: "was there"}
    return f"group /clinics/{clinic_id} {told[outcome]}"


@click.command("deactivate-clinic", cls=Command, examples=("clinicpacs deactivate-clinic northside",))
@click.argument("clinic_id", metavar="ID", type=CLINIC)
@with_platform
def deactivate_clinic(platform: Platform, clinic_id: ClinicId) -> None:
    """Stop serving a clinic.

    Its inbox is no longer imported and its users see no studies. Whoever belongs to no other clinic and has
    no role is signed out. Nothing is deleted: its studies stay its own, its folders stay as they are.
    `clinicpacs add-clinic` makes it active again.
    """
    require_clinic(platform, clinic_id)
    with platform.catalog.write() as connection:
        clinics.deactivate(connection, clinic_id)
        platform.record(connection, "deactivate-clinic", clinic_id=clinic_id)
        active = clinics.active_ids(connection)
    click.echo(f"{clinic_id}: no longer served; its studies and folders stay")
    click.echo(f"{clinic_id}: {_sign_out(platform, clinic_id, active)}")


def _sign_out(platform: Platform, clinic_id: ClinicId, active: frozenset[ClinicId]) -> str:
    """End the sessions of those who are left with nothing to see."""
    try:
        if platform.directory is None:
            return "no identity provider is configured, so nobody was signed out"
        gone = [
            user.username
            for user in platform.directory.users()
            if clinic_id in user.clinics and not user.roles and not user.clinics & active
        ]
        for username in gone:
            platform.directory.end_sessions(username)
    except DirectoryError as error:
        raise UnusableError(
            f"{clinic_id} is deactivated and its users see no studies, but they are not signed out: {error}; "
            "run the same command again"
        ) from error
    return f"{counted(len(gone), 'user')} signed out"
