"""The `clinicpacs` command. Nothing but click is imported until a command is chosen."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from admin.teaching import Group
from pacs import __version__


class _Lazy(NamedTuple):
    section: str
    module: str
    summary: str


COMMANDS = {
    "add-clinic": _Lazy("Clinics and users", "clinics:add_clinic", "Add a clinic, or rename one."),
    "deactivate-clinic": _Lazy(
        "Clinics and users", "clinics:deactivate_clinic", "Stop serving a clinic; its studies stay."
    ),
    "add-user": _Lazy(
        "Clinics and users", "users:add_user", "Add a user, or give one more clinics or roles."
    ),
    "move-user": _Lazy(
        "Clinics and users",
        "users:move_user",
        "Move a user to other clinics; existing tokens are revoked at once.",
    ),
    "remove-user": _Lazy(
        "Clinics and users", "users:remove_user", "Remove a user, whose tokens end at once."
    ),
    "status": _Lazy("Imports", "status:status", "Show what runs, what waits and what is stuck."),
    "retry": _Lazy("Imports", "failed:retry", "Put failed files back into the inbox."),
    "dismiss": _Lazy("Imports", "failed:dismiss", "Acknowledge failed files; they stay where they are."),
    "conflicts": _Lazy("Imports", "conflicts:conflicts", "List and settle files that clash with a study."),
    "share": _Lazy("Studies", "sharing:share", "Let a second clinic read a study until a day."),
    "unshare": _Lazy("Studies", "sharing:unshare", "End a share."),
    "shares": _Lazy("Studies", "sharing:shares", "List what is shared with whom."),
    "transfer": _Lazy("Studies", "transfer:transfer", "Transfer a study to another clinic."),
    "delete": _Lazy("Studies", "delete:delete", "Delete a study from archive and lists."),
    "verify": _Lazy("Upkeep", "verify:verify", "Compare processed files with the archive."),
    "prune": _Lazy("Upkeep", "prune:prune", "Delete old processed files that are in the archive."),
    "reindex": _Lazy("Upkeep", "reindex:reindex", "Rebuild the worklist from the archive."),
    "backup": _Lazy("Upkeep", "backup:backup", "List and verify backups."),
    "refile": _Lazy("Upkeep", "refile:refile", "Import again what was stored since a backup."),
    "apply-realm": _Lazy("Upkeep", "realm:apply_realm", "Bring Keycloak's realm in line with .env."),
    "migrate": _Lazy("Upkeep", "upkeep:migrate", "Bring the catalog to this version."),
    "check": _Lazy("Upkeep", "upkeep:check", "Check the settings of all services."),
    "audit": _Lazy("Upkeep", "audit:audit", "List, verify, export and prune the audit trail."),
}


class _LazyGroup(Group):
    """Imports a command's module when it is run, and shows the help of the group without."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is the order of need."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it."""
        del ctx
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, name = lazy.module.partition(":")
        command: click.Command = getattr(importlib.import_module(f"admin.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table's summaries."""
        del ctx
        for section in dict.fromkeys(lazy.section for lazy in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, lazy.summary) for name, lazy in COMMANDS.items() if lazy.section == section]
                )


@click.group(
    cls=_LazyGroup,
    examples=(
        'clinicpacs add-clinic northside "Northside Clinic"',
        "clinicpacs add-user nora --email nora@northside.example --clinic northside",
        "clinicpacs status",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from the environment, then .env, then DATA_PATH/clinicpacs.env; docs/SETTINGS.md "
    "lists them. Exit codes: 0 done, 1 something did not work, 2 wrong usage or settings, or a part that "
    "cannot be reached.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Set up and look after clinicpacs."""


def main() -> None:
    """Entry point."""
    cli(prog_name="clinicpacs")
