"""A real Orthanc with its DICOMweb plugin, for tests of what it does: `orthanc` is a session fixture.

A test folder that wants it imports the fixture in its conftest: ``from support.orthanc import orthanc``.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests

from demo import orthanc as orthanc_parts
from demo.processes import StartError
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

USERNAME = "importer"
PASSWORDS = {user: f"{user}-secret" for user in orthanc_parts.USERS}
_START_SECONDS = 90


@dataclass
class Orthanc:
    """A running server.

    `url` is its REST root, `dicomweb_url` its DICOMweb root, `version` its own word, such as "1.10.1".
    Stores and reads as its user `importer`; `PASSWORDS` has those of all.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    version: str = ""
    username: str = USERNAME
    password: str = PASSWORDS[USERNAME]

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        overwrite: bool = True,
        program: Sequence[str] = (),
        configuration: Path = orthanc_parts.CONFIGURATION,
        **variables: str,
    ) -> Orthanc:
        """Start one with its storage in `folder`, by the configuration that production mounts.

        `overwrite` False is Orthanc's own default, which an administrator may have left as it is.
        `program` is another one than that of this machine. `variables` are for orthanc.json, over those of
        the demo.
        """
        variables = {"ORTHANC_OVERWRITE": json.dumps(overwrite)} | variables
        for attempt in range(3):
            port = free_port()
            log = folder / f"orthanc-{attempt}.log"
            environment = orthanc_parts.environment(folder / "storage", port, PASSWORDS, 1) | variables
            with log.open("wb") as file:
                process = subprocess.Popen(
                    command(configuration, program),
                    stdout=file,
                    stderr=file,
                    env={**os.environ, **environment},
                )
            server = cls(f"http://127.0.0.1:{port}", process, log)
            # Another process may have taken the port meanwhile.
            if server._is_ready():
                return server
            server.stop()
        raise AssertionError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")

    def _is_ready(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = requests.get(f"{self.url}/system", auth=(self.username, self.password), timeout=5)
                if answer.ok:
                    self.version = answer.json()["Version"]
                    return True
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.05)
        return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def command(configuration: Path = orthanc_parts.CONFIGURATION, program: Sequence[str] = ()) -> list[str]:
    """What starts it; the configuration names its filter by a path beside it."""
    return [*(program or [orthanc_parts.program()]), str(configuration)]


def require_installed() -> None:
    """Skip for want of Orthanc; in CI it must be there."""
    try:
        orthanc_parts.program(), orthanc_parts.plugin()
    except StartError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have it: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One Orthanc for all tests of a folder: give studies UIDs of the test's own."""
    require_installed()
    server = Orthanc.start(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()
