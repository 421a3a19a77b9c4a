"""What the production stack's services take, and complain of, while a day passes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.stack import Stack

SERVICES = ("gateway", "importer", "keycloak", "nginx", "orthanc", "postgres")
# Where a service has files that it means to take away again, besides /tmp.
_TEMPORARY = {"nginx": "/var/cache/nginx", "importer": "/data/*/*/.clinicpacs-scratch"}
# Handles of the others are connections of viewers, or of pools which they fill.
_COUNTED = {"gateway", "importer", "orthanc"}
# Levels as each writes them: structlog, nginx, Orthanc (E and W), PostgreSQL, Keycloak.
_COMPLAINT = re.compile(
    r'"level": ?"(?:warning|error|critical)"|\[(?:warn|error|crit|alert|emerg)\]|^\S*\s*\|?\s*[EW]\d{4} '
    r"|\b(?:ERROR|FATAL|PANIC|WARN|WARNING)\b"
)


@dataclass(frozen=True)
class Usage:
    """Of one service.

    Attributes:
        memory: bytes that are no cache of the kernel's.
        handles: open descriptors of all its processes.
        files: temporary ones.
    """

    memory: float
    handles: float
    files: float


def is_counted(service: str) -> bool:
    """Whether its open handles say something."""
    return service in _COUNTED


def usage(stack: Stack) -> dict[str, Usage]:
    """What each service takes now."""
    return {service: _usage(stack, service) for service in SERVICES}


def _usage(stack: Stack, service: str) -> Usage:
    script = (
        "cat /sys/fs/cgroup/memory.stat 2>/dev/null || cat /sys/fs/cgroup/memory/memory.stat;"
        "echo handles $(ls -d /proc/[0-9]*/fd/* 2>/dev/null | wc -l);"
        f"echo files $(find /tmp {_TEMPORARY.get(service, '')} -type f 2>/dev/null | wc -l)"
    )
    lines = stack.compose("exec", "-T", service, "sh", "-c", script).splitlines()
    told = dict(line.split()[:2] for line in lines)
    return Usage(int(told.get("anon") or told["rss"]), int(told["handles"]), int(told["files"]))


def complaints(stack: Stack) -> Counter[str]:
    """How many lines of warnings and errors each service has logged."""
    return Counter(
        {
            service: sum(bool(_COMPLAINT.search(line)) for line in stack.logs(service).splitlines())
            for service in SERVICES
        }
    )
