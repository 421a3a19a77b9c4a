"""The importer as a process of its own: `python -m importer`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from support.importing import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.importing import World

ROOT = Path(__file__).parents[2]


def environment(world: World, **more: str) -> dict[str, str]:
    """The settings of a world as environment variables."""
    values = {
        "PATH": os.environ["PATH"],
        "DATA_PATH": str(world.data),
        "DATABASE_URL": world.database_url,
        "ARCHIVE_URL": world.server.url,
        "ARCHIVE_TIMEOUT_SECONDS": "5",
        "COOLDOWN_SECONDS": "0.1",
        "RESCAN_SECONDS": "0.2",
        "IMPORTER_PORT": "0",
        "IMPORTER_HOST": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    return values | more


@dataclass
class Process:
    """One importer process; its log is a `*.log`, so that it is searched for patient data."""

    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, world: World, *arguments: str, patch: str = "", through: Sequence[str] = (), **more: str
    ) -> Process:
        """Start one.

        `patch` is a statement that changes `importer.daemon` first, to save waiting; `through` is a command
        that becomes the importer, having changed what it may do.
        """
        log = world.data.parent / f"importer-{len(list(world.data.parent.glob('*.log')))}.log"
        program = ["-m", "importer"]
        if patch:
            main = f"import sys; from importer import daemon, __main__; {patch}; sys.exit(__main__.main())"
            program = ["-c", main]
        with log.open("wb") as file:
            popen = subprocess.Popen(
                [*through, sys.executable, *program, *arguments],
                env=environment(world, **more),
                cwd=world.data.parent,
                stdout=file,
                stderr=file,
            )
        return cls(popen, log)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_started(self) -> int:
        """The port of its metrics."""
        found = wait_until(
            lambda: re.search(r'"port": (\d+)', self.output) or self.popen.poll() is not None, 60
        )
        assert not isinstance(found, bool), self.output
        return int(found[1])

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.wait_started()}{path}", timeout=30)

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()
        self.popen.wait(30)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(60)


def run(world: World, *arguments: str, seconds: float = 120, **more: Any) -> tuple[int, str]:
    """Run to the end: exit code, and what it said."""
    process = Process.start(world, *arguments, **more)
    try:
        return process.popen.wait(seconds), process.output
    finally:
        process.kill()
