"""`clinicpacs add-user`, `move-user` and `remove-user`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from admin.directory import NewUser, Role, UnknownClinicError, UnknownUserError, parse_roles
from admin.directory.passwords import check_password
from admin.revocations import revoke
from admin.teaching import Command
from admin.terminal import CLINIC, UnusableError, shown, with_platform
from pacs.catalog import clinics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from admin.directory import AddedUser, Directory, User
    from admin.platform import Platform
    from pacs.ids import ClinicId

_ROLES = click.Choice([role.value for role in Role])


@dataclass(frozen=True)
class _Password:
    given: str | None
    reset: bool


@click.command(
    "add-user",
    cls=Command,
    examples=(
        "clinicpacs add-user nora --email nora@northside.example --clinic northside",
        "clinicpacs add-user rita --email rita@reading.example --role radiologist",
        "clinicpacs add-user nora --email nora@northside.example --clinic northside --clinic southside",
        "clinicpacs add-user nora --email nora@northside.example --reset-password",
        "clinicpacs add-user ada --email ada@reading.example --role pacs-admin --otp",
    ),
)
@click.argument("username", metavar="NAME")
@click.option("--email", required=True, help="The user's own e-mail address.")
@click.option("--clinic", "of", metavar="ID", type=CLINIC, multiple=True, help="A clinic of the user's.")
@click.option("--role", "roles", type=_ROLES, multiple=True, help="A role that sees all clinics.")
@click.option("--full-name", metavar="TEXT", help="The person's name, as the viewer shows it.")
@click.option("--password-stdin", is_flag=True, help="Take the password from the first line of stdin.")
@click.option("--reset-password", is_flag=True, help="Set a new password for an existing user.")
@click.option("--otp", is_flag=True, help="Ask for a one-time code, too; the user sets it up at the sign-in.")
@with_platform
def add_user(  # noqa: PLR0917 - click passes them by name
    platform: Platform,
    username: str,
    email: str,
    of: tuple[ClinicId, ...],
    roles: tuple[str, ...],
    full_name: str | None,
    *,
    password_stdin: bool,
    reset_password: bool,
    otp: bool,
) -> None:
    """Add a user, or give one more clinics or roles.

    Prints a temporary password, once; the user chooses another one at the first sign-in. Running the command
    again for a user who is there adds the clinics and roles that are missing, takes nothing away, and keeps
    the password. `clinicpacs move-user` takes away.
    """
    new = NewUser.of(username, email, of, roles, name=full_name, one_time_code=otp)
    directory = _directory(platform)
    names = _names_of(platform, new.clinics)
    password = _Password(_from_stdin() if password_stdin else None, reset_password)
    before = _find(directory, new.username)
    granted = " ".join([*sorted(new.clinics), *sorted(new.roles), *(["one-time code"] if otp else [])])
    with platform.recorded("add-user", detail=f"{new.username} {granted}".strip()):
        for clinic_id, name in names.items():
            directory.ensure_clinic(clinic_id, name)
        added = directory.add_user(new, password.given)
    for line in _describe(before, added):
        click.echo(shown(line))
    if otp:
        click.echo(f"{new.username}: a one-time code is asked for; it is set up at the next sign-in")
    _tell_password(platform, directory, before, added, password)


def _tell_password(
    platform: Platform, directory: Directory, before: User | None, added: AddedUser, password: _Password
) -> None:
    username = added.user.username
    temporary = added.temporary_password
    if before is not None and not password.reset:
        click.echo(f"{username}: the password stays as it was (--reset-password gives a new one)")
        return
    if before is not None:
        with platform.recorded("reset-password", detail=username):
            temporary = directory.set_password(username, password.given)
    if temporary is None:
        click.echo(f"{username}: the password is the one that you gave")
    else:
        click.echo(f"{username}: temporary password, shown only now: {temporary}")


def _directory(platform: Platform) -> Directory:
    if platform.directory is None:
        raise UnusableError(
            "no identity provider is configured, so there is nowhere to keep users: set KEYCLOAK_URL and "
            "KEYCLOAK_CLIENT_SECRET"
        )
    return platform.directory


def _names_of(platform: Platform, wanted: Iterable[ClinicId]) -> dict[ClinicId, str]:
    with platform.catalog.read() as connection:
        known = {clinic.id: clinic.name for clinic in clinics.all_clinics(connection)}
    for clinic_id in sorted(wanted):
        if clinic_id not in known:
            raise UnknownClinicError(clinic_id)
    return {clinic_id: known[clinic_id] for clinic_id in sorted(wanted)}


def _from_stdin() -> str:
    return check_password(sys.stdin.readline().rstrip("\r\n"))


def _find(directory: Directory, username: str) -> User | None:
    try:
        return directory.user(username)
    except UnknownUserError:
        return None


def _describe(before: User | None, added: AddedUser) -> list[str]:
    user = added.user
    if before is None:
        has = [
            *(f"clinic {each}" for each in sorted(user.clinics)),
            *(f"role {r}" for r in sorted(user.roles)),
        ]
        nothing = "no clinic and no role yet, so the viewer will show nothing"
        return [f"{user.username}: added, {', '.join(has) or nothing}"]
    changes = [
        *(f"clinic {each} added" for each in sorted(user.clinics - before.clinics)),
        *(f"role {each} added" for each in sorted(user.roles - before.roles)),
        *([f"e-mail address is now {user.email}"] if user.email != before.email else []),
        *([f"name is now {user.name}"] if user.name != before.name else []),
    ]
    lines = [f"{user.username}: {change}" for change in changes] or [f"{user.username}: nothing to change"]
    return lines if user.active else [*lines, f"{user.username}: deactivated, cannot sign in"]


@click.command(
    "move-user",
    cls=Command,
    examples=(
        "clinicpacs move-user nora --clinic southside",
        "clinicpacs move-user nora --clinic northside --clinic southside",
        "clinicpacs move-user rita --no-role --clinic northside",
        "clinicpacs move-user nora --no-clinic",
    ),
)
@click.argument("username", metavar="NAME")
@click.option("--clinic", "of", metavar="ID", type=CLINIC, multiple=True, help="A clinic of the user's.")
@click.option("--no-clinic", is_flag=True, help="Take all clinics away.")
@click.option("--role", "roles", type=_ROLES, multiple=True, help="A role that sees all clinics.")
@click.option("--no-role", is_flag=True, help="Take all roles away.")
@with_platform
def move_user(
    platform: Platform,
    username: str,
    of: tuple[ClinicId, ...],
    roles: tuple[str, ...],
    *,
    no_clinic: bool,
    no_role: bool,
) -> None:
    """Make these clinics, and only these, the user's; the same with roles.

    Whatever you do not name stays as it is. Tokens that the user holds are refused from this moment on; an
    open viewer gets a new one, for what the user may see now.
    """
    if not (of or roles or no_clinic or no_role):
        raise click.UsageError("say which clinics or roles: --clinic, --no-clinic, --role, --no-role")
    if (of and no_clinic) or (roles and no_role):
        raise click.UsageError("--clinic and --no-clinic exclude each other, and so do --role and --no-role")
    directory = _directory(platform)
    before = directory.user(username)
    names = _names_of(platform, of) if of else {}
    clinics_then = frozenset(of) if of or no_clinic else before.clinics
    roles_then = parse_roles(roles) if roles or no_role else before.roles
    detail = f"{before.username}: {_has(before.clinics, before.roles)} -> {_has(clinics_then, roles_then)}"
    with platform.recorded("move-user", detail=detail):
        _revoke(platform, before)
        for clinic_id, name in names.items():
            directory.ensure_clinic(clinic_id, name)
        directory.set_clinics(before.username, clinics_then)
        directory.set_roles(before.username, roles_then)
        # Once more, for a token that was issued in between.
        _revoke(platform, before)
    click.echo(shown(detail))


def _has(of: Iterable[str], roles: Iterable[str]) -> str:
    return ", ".join([*sorted(of), *sorted(roles)]) or "nothing"


@click.command("remove-user", cls=Command, examples=("clinicpacs remove-user nora",))
@click.argument("username", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_platform
def remove_user(platform: Platform, username: str, *, yes: bool) -> None:
    """Remove a user.

    Tokens that the user holds are refused from this moment on. What the user opened stays in the audit trail.
    """
    directory = _directory(platform)
    user = directory.user(username)
    if not yes:
        click.confirm(f"Remove {user.username} ({user.email})?", abort=True)
    with platform.recorded("remove-user", detail=user.username):
        _revoke(platform, user)
        directory.remove_user(user.username)
        # Once more, for a token that was issued in between.
        _revoke(platform, user)
    click.echo(f"{user.username}: removed")


def _revoke(platform: Platform, user: User) -> None:
    with platform.catalog.write() as connection:
        revoke(connection, user.id, platform.now())
