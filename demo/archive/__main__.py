"""``python -m demo.archive --root DIR [--port N]``: serve a folder over DICOMweb on loopback."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from demo.archive.errors import ArchiveInUseError
from demo.archive.server import run
from pacs import logs
from pacs.settings import refuse


def main() -> None:
    """Parse the command line and serve; exit 2 with one sentence when that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m demo.archive", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the files and the index")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--max-bytes", type=int, help="refuse to store more than this")
    parser.add_argument("--reindex", action="store_true", help="rebuild the index from the files")
    options = parser.parse_args()
    _check_port(options.port)
    logs.configure("archive")
    try:
        run(
            options.root.absolute(),
            options.port,
            username=os.environ.get("ARCHIVE_USERNAME", ""),
            password=os.environ.get("ARCHIVE_PASSWORD", ""),
            max_bytes=options.max_bytes,
            reindex=options.reindex,
        )
    except ArchiveInUseError as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename or options.root}: {error.strerror}")


def _check_port(port: int) -> None:
    # gunicorn would try five times and then end with its own words.
    if not 0 <= port <= 65535:  # noqa: PLR2004
        refuse(f"--port {port}: must be from 0 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            refuse(f"port {port}: {error.strerror}")


if __name__ == "__main__":
    main()
