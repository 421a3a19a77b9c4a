"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from bench.servers import orthanc
from support import nginx, postgres


def describe() -> dict[str, str]:
    """Processor, memory, system and the servers' versions, as far as they are here."""
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "system": f"{_pretty_name()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "Orthanc": orthanc.version(),
        "PostgreSQL": _said(
            [str(found / "postgres"), "--version"] if (found := postgres.binaries()) else None
        ),
        "nginx": _said([found, "-v"] if (found := nginx.program()) else None),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _pretty_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def _said(command: list[str] | None) -> str:
    if command is None:
        return "none"
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found else "unknown"
