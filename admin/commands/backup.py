"""`clinicpacs backup`: list and verify backups; its hidden steps are what the scripts have done for them."""

from __future__ import annotations

import json
from typing import Any

import click

from admin.backup import crypt
from admin.backup.manifest import Manifest, ManifestError
from admin.backup.seal import total_bytes
from admin.backup.verify import faults, obstacles
from admin.commands import backup_steps, restore_steps
from admin.commands.backup_steps import BACKUPS, NAME, Shelved, progress
from admin.teaching import Command, Group
from admin.terminal import JSON, FailedError, console, counted, megabytes, shown, table

_SHOWN_FAULTS = 20


@click.group(
    cls=Group,
    examples=("clinicpacs backup list", "clinicpacs backup verify clinicpacs-20260102T030405Z"),
)
def backup() -> None:
    """List backups and verify them. `make backup` makes one, `make restore` brings one back."""


@backup.command(
    "list", cls=Command, examples=("clinicpacs backup list", "clinicpacs backup list --json | jq .name")
)
@JSON
@BACKUPS
def list_backups(shelf: Shelved, *, as_json: bool) -> None:
    """List the complete backups, newest first."""
    if as_json:
        for name in shelf.complete():
            click.echo(json.dumps({"name": name, **_as_json(shelf, name)}))
        return
    listed = table(
        "Backups", "name", "studies", "users", "images", "size", "state", right=("studies", "users", "size")
    )
    for name in shelf.complete():
        listed.add_row(name, *_line(shelf, name))
    console().print(listed if listed.row_count else "there is no backup yet")


def _as_json(shelf: Shelved, name: str) -> dict[str, Any]:
    try:
        manifest = Manifest.read(shelf.root / name)
    except ManifestError as error:
        return {"fault": str(error)}
    studies, users = _counts(manifest)
    return {
        "finished_at": manifest.finished_at.isoformat(),
        "studies": studies,
        "users": users,
        "images": manifest.images.files if manifest.images else None,
        "missing": manifest.images.missing if manifest.images else None,
        "bytes": total_bytes(manifest),
        "encrypted": bool(manifest.keys),
        "fault": None,
    }


def _counts(manifest: Manifest) -> tuple[int, int]:
    studies = manifest.databases.get("catalog", {}).get("public.studies", 0)
    return studies, manifest.databases.get("keycloak", {}).get("public.user_entity", 0)


def _line(shelf: Shelved, name: str) -> tuple[str, ...]:
    try:
        manifest = Manifest.read(shelf.root / name)
    except ManifestError as error:
        return "", "", "", "", str(error)
    studies, users = _counts(manifest)
    inside = f"{manifest.images.files} files" if manifest.images else "not inside"
    return str(studies), str(users), inside, megabytes(total_bytes(manifest)), "complete"


@backup.command(cls=Command, examples=("clinicpacs backup verify clinicpacs-20260102T030405Z",))
@NAME
@click.option("--postgres", type=int, help="PostgreSQL's major version where it is to be restored.")
@BACKUPS
def verify(shelf: Shelved, name: str, postgres: int | None) -> None:
    """Read every byte of a backup and hold it against its manifest; exit code 1 when something is wrong."""
    folder = shelf.find(name)
    manifest = Manifest.read(folder)
    found = [] if postgres is None else list(obstacles(manifest, postgres))
    bar = progress("files read")
    found += faults(folder, bar)
    for fault in found[:_SHOWN_FAULTS]:
        click.echo(shown(f"{name}: {fault}"), err=True)
    if found:
        raise FailedError(f"{name} has {counted(len(found), 'fault')}: it must not be restored")
    click.echo(f"{name} is complete and as it was made")


@backup.command("new-key", cls=Command, examples=("clinicpacs backup new-key",))
def new_key() -> None:
    """Make a key that backups are encrypted to. Its private half is printed once, and kept nowhere here.

    Put the public half into .env as BACKUP_KEY. Keep the private one on paper or in a password safe, at two
    places, and not on this machine: without it no encrypted backup can ever be read again.
    """
    private, public = crypt.new_key()
    click.echo(f"# public key, for .env: BACKUP_KEY={public}")
    click.echo(private)


for step in (*backup_steps.STEPS, *restore_steps.STEPS):
    backup.add_command(step)
