"""Inbox to archive: CT files of 0.5 MB through `python -m importer --once`, into each archive there is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from demo import orthanc
from demo.archive.server import running
from demo.processes import StartError
from pacs.catalog import Catalog, clinics
from pacs.ids import ClinicId
from support.corpus import write_study
from support.orthanc import Orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator

CLINIC = ClinicId("northside")
_STUDIES = 8


@contextmanager
def _embedded(folder: Path) -> Iterator[dict[str, str]]:
    with running(folder / "archive", username="bench", password="bench") as archive:
        yield {"ARCHIVE_URL": archive.url, "ARCHIVE_USERNAME": "bench", "ARCHIVE_PASSWORD": "bench"}


@contextmanager
def _orthanc(folder: Path) -> Iterator[dict[str, str]]:
    server = Orthanc.start(folder)
    try:
        yield {
            "ARCHIVE_URL": server.dicomweb_url,
            "ARCHIVE_USERNAME": server.username,
            "ARCHIVE_PASSWORD": server.password,
        }
    finally:
        server.stop()


def run(files: int) -> None:
    """Print files a second and the importer's peak memory, for each archive."""
    archives = {"embedded archive": _embedded}
    try:
        orthanc.program()
        archives["Orthanc"] = _orthanc
    except StartError as missing:
        print(missing)
    for name, start in archives.items():
        with (
            tempfile.TemporaryDirectory(prefix="clinicpacs-bench-") as scratch,
            start(Path(scratch)) as where,
        ):
            seconds, megabytes = _import(Path(scratch), where, files)
        print(f"import into {name}: {files / seconds:.0f} files/s, importer's peak {megabytes:.0f} MB")


def _import(folder: Path, archive: dict[str, str], files: int) -> tuple[float, float]:
    data = folder / "data"
    with _catalog(data).write() as connection:
        clinics.add(connection, CLINIC, "Northside", datetime.now(UTC))
    for number in range(_STUDIES):
        study = data / "inbox" / CLINIC / f"study-{number}"
        write_study(study, "CT", instances=files // _STUDIES, seed=number, size=512)
    environment = {
        **os.environ,
        **archive,
        "DATA_PATH": str(data),
        "COOLDOWN_SECONDS": "0.1",
        "IMPORTER_PORT": "0",
    }
    command = [sys.executable, "-m", "importer", "--once"]
    # The whole of it: the process's start and end, and looking twice whether the files are stable.
    seconds, peak = _seconds(command, environment)
    stored = sum(1 for path in (data / "processed").rglob("*.dcm"))
    if stored != files // _STUDIES * _STUDIES:
        raise SystemExit(f"only {stored} of {files} files were stored")
    return seconds, peak


def _catalog(data: Path) -> Catalog:
    data.mkdir()
    return Catalog.open(SecretStr(f"sqlite:///{data}/catalog.db"))


def _seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """How long a command takes, and its peak memory in MB: its own, not that of any other child."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with code {process.returncode}")
    return time.monotonic() - began, usage.ru_maxrss / 1024
