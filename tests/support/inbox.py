"""Handing studies over to the production stack, as a clinic's own computer does."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from support.corpus import write_study
from support.stack import wait_until

if TYPE_CHECKING:
    from support.stack import Stack

HOST_USER = 4711
"""A user of the host that is neither root nor the services', and in no group of theirs."""


def copy_in(stack: Stack, clinic: str, folder: Path, name: str) -> Path:
    """`cp -r` into the clinic's inbox by a host user of the inboxes' group, with umask 022."""
    target = stack.path("inbox", clinic) / name
    gid = stack.settings["PACS_GID"]
    subprocess.run(
        ["setpriv", f"--reuid={HOST_USER}", f"--regid={gid}", "--clear-groups",
         "sh", "-c", 'umask 022 && cp -r "$1" "$2"', "sh", str(folder), str(target)],
        check=True,
    )  # fmt: skip
    return target


def drop(stack: Stack, clinic: str, name: str, kind: str, *, instances: int, seed: int) -> None:
    """Write a study, hand it over and wait until it is filed; nothing to do if it was before."""
    if processed(stack, clinic, name):
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # noqa: PTH101 - the host's user reads it
        folder = Path(scratch) / name
        write_study(folder, kind, instances=instances, seed=seed)
        copy_in(stack, clinic, folder, name)
    wait_until(lambda: len(processed(stack, clinic, name)) == instances, 90, f"{clinic}/{name} is filed")


def processed(stack: Stack, clinic: str, name: str) -> list[Path]:
    """Files of a dropped folder that were stored and filed."""
    return [path for path in stack.path("processed", clinic).glob(f"*/{name}/**/*") if path.is_file()]


def failed(stack: Stack, clinic: str, name: str) -> list[Path]:
    """Files of a dropped folder that failed; each has its `.error.json` beside it, not counted here."""
    found = stack.path("failed", clinic).glob(f"*/{name}/**/*")
    return [path for path in found if path.is_file() and not path.name.endswith(".error.json")]
