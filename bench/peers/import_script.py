"""A plain import script, as a competent person would write it: read, tag, store in batches, move.

    python import_script.py INBOX PROCESSED DICOMWEB_URL USER PASSWORD CLINIC BATCH

Nothing is reserved, waited for or checked, and what fails ends it. Prints the seconds from its first look
to its last move, without the start of Python. BATCH 0 sends a folder in one request, as mercure's DICOMweb
target does with a series.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Import everything there is."""
    began = time.monotonic()
    inbox, processed, url, user, password, clinic, batch = arguments
    client = DICOMwebClient(url, session=create_session_from_user_pass(user, password), timeout=600)
    for folder, _, names in os.walk(inbox):
        into = Path(processed) / Path(folder).relative_to(inbox)
        into.mkdir(parents=True, exist_ok=True)
        paths = [Path(folder) / name for name in sorted(names)]
        size = int(batch) or max(1, len(paths))
        for first in range(0, len(paths), size):
            _store(client, paths[first : first + size], clinic)
            for path in paths[first : first + size]:
                shutil.move(path, into / path.name)
    print(time.monotonic() - began)


def _store(client: DICOMwebClient, paths: list[Path], clinic: str) -> None:
    instances = [pydicom.dcmread(path) for path in paths]
    for instance in instances:
        instance.InstitutionName = clinic
    answer = client.store_instances(instances)
    if len(answer.ReferencedSOPSequence) != len(instances):
        raise SystemExit("not all instances were stored")


if __name__ == "__main__":
    main(sys.argv[1:])
