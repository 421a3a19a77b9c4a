"""The realm's and the directory's own tests, against the stack's Keycloak instead of one that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.stack import Stack

ROOT = Path(__file__).parents[2]
OPTIONS = ["-q", "-m", "keycloak", "-p", "no:cacheprovider"]


def test_the_realm_and_the_directory(stack: Stack, tmp_path: Path) -> None:
    address = stack.address("keycloak")
    log = tmp_path / "keycloak.log"
    where = {
        "KEYCLOAK_URL": f"http://{address}:8080/auth",
        "KEYCLOAK_MANAGEMENT_URL": f"http://{address}:9000/auth",
        "KEYCLOAK_LOG": str(log),
    }
    with stack.following("keycloak", log):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, "tests/keycloak"],
            cwd=ROOT,
            env={**os.environ, **stack.settings, **where},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:]
