"""Exits 0 when Orthanc answers from its index, for a container's health check: `python3 healthcheck.py`.

As its user `monitor`, whose password is in ARCHIVE_MONITOR_PASSWORD. The metrics count what the index holds;
`/system` alone would be answered without the database. With ORTHANC_DB_PASSWORD set the index must be
PostgreSQL: an Orthanc whose plugin was left out would start on an empty SQLite index.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.request

_TIMEOUT_SECONDS = 10


def main() -> None:
    """Ask; an answer that is none ends with the reason on stderr and 1."""
    try:
        _ask("/tools/metrics-prometheus")
        system = json.loads(_ask("/system"))
    except (OSError, ValueError) as error:
        sys.exit(f"Orthanc does not answer: {error}")
    if os.environ.get("ORTHANC_DB_PASSWORD") and not system.get("DatabaseBackendPlugin"):
        sys.exit("Orthanc does not run on PostgreSQL: its plugin is not among ORTHANC_PLUGINS")


def _ask(path: str) -> bytes:
    port = os.environ.get("ORTHANC_HTTP_PORT") or "8042"
    credentials = f"monitor:{os.environ.get('ARCHIVE_MONITOR_PASSWORD', '')}".encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    request.add_header("Authorization", f"Basic {base64.b64encode(credentials).decode()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read()
        return content


if __name__ == "__main__":
    main()
