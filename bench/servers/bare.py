"""Bare Orthanc, as one who just installs it: nobody checks anything, every other setting is Orthanc's own."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import urllib3

from bench.servers import orthanc
from demo.processes import free_port
from support.orthanc import Orthanc
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 30


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """One with its files and its index, SQLite, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": orthanc.plugins(postgresql=False),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": False,
        "RemoteAccessAllowed": True,
    }
    (folder / "bare.json").write_text(json.dumps(settings))
    dictionary = orthanc.ROOT / "usr/share/dcmtk/dicom.dic"
    environment = {"DCMDICTPATH": str(dictionary)} if dictionary.exists() else {}
    log = folder / "bare.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*orthanc.command(), str(folder / "bare.json")],
            stdout=file,
            stderr=file,
            env=os.environ | environment,
        )
    server = Orthanc(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_until(lambda: _is_ready(server), _START_SECONDS, "Orthanc is ready", every=0.05)
        yield server
    finally:
        server.stop()


def _is_ready(server: Orthanc) -> bool:
    try:
        return urllib3.request("GET", f"{server.url}/system", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False
