"""Orthanc's own way to import a folder, as its sample script does: POST /instances, file by file.

    python post_each.py INBOX PROCESSED ORTHANC_URL USER PASSWORD

Nothing is tagged. Prints the seconds from its first look to its last move, without the start of Python.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import requests


def main(inbox: str, processed: str, url: str, user: str, password: str) -> None:
    """Import everything there is."""
    began = time.monotonic()
    session = requests.Session()
    session.auth = (user, password)
    for folder, _, names in os.walk(inbox):
        into = Path(processed) / Path(folder).relative_to(inbox)
        into.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            path = Path(folder) / name
            session.post(f"{url}/instances", data=path.read_bytes()).raise_for_status()
            shutil.move(path, into / name)
    print(time.monotonic() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
