"""Alertmanager as `monitoring/alertmanager/start.sh` starts it, or what would have been started."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import requests
import yaml

from support.monitoring import MONITORING, program
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

START = MONITORING / "alertmanager" / "start.sh"
SITE = "https://pacs.example"

# Tells what it was given: no secret may be among it.
_STAND_IN = '#!/bin/sh\nprintf "%s\\n" "$@" >"$RUN_PATH/arguments"\nenv >"$RUN_PATH/environment"\n'


@dataclass
class Written:
    """What start.sh left in its folder."""

    run: Path
    status: int
    said: str

    @property
    def path(self) -> Path:
        return self.run / "alertmanager.yml"

    @property
    def configuration(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        return document

    def of(self, kind: str) -> dict[str, Any]:
        """The one receiver's only integration of this kind, such as `email_configs`."""
        (receiver,) = self.configuration["receivers"]
        (found,) = receiver[kind]
        return dict(found)


def write(folder: Path, environment: dict[str, str], shell: str = "sh") -> Written:
    """Run start.sh with a program in Alertmanager's place."""
    run, programs = _folders(folder)
    stand_in = programs / "alertmanager"
    stand_in.write_text(_STAND_IN)
    stand_in.chmod(0o755)
    command = [*shell.split(), str(START)]
    done = subprocess.run(
        command,
        env=_environment(run, programs, environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Written(run, done.returncode, done.stderr)


def _folders(folder: Path) -> tuple[Path, Path]:
    folders = folder / "run", folder / "programs"
    for each in folders:
        each.mkdir()
    return folders


def _environment(run: Path, programs: Path, more: dict[str, str]) -> dict[str, str]:
    path = f"{programs}:{os.environ['PATH']}"
    return {"PATH": path, "RUN_PATH": str(run), "TZ": "UTC", "PUBLIC_URL": SITE, **more}


@dataclass
class Alertmanager:
    """A running one, of the production's configuration.

    Attributes:
        url: its root.
    """

    url: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path, environment: dict[str, str]) -> Self:
        """Start it with its data in `folder`; groups are told after a fraction of a second."""
        run, programs = _folders(folder)
        (programs / "alertmanager").symlink_to(program("alertmanager", "prometheus-alertmanager"))
        quick = {
            "ALERT_GROUP_WAIT": "100ms",
            "ALERT_GROUP_INTERVAL": "500ms",
            "ALERTMANAGER_DATA": f"{folder}/data",
        }
        address = f"127.0.0.1:{free_port()}"
        with (folder / "alertmanager.log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", str(START), f"--web.listen-address={address}"],
                env=_environment(run, programs, {**quick, **environment}),
                stdout=log,
                stderr=log,
            )
        server = cls(f"http://{address}", process)
        server._wait(folder / "alertmanager.log")
        return server

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/-/ready", timeout=5).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.02)
        self.stop()
        raise AssertionError(f"Alertmanager did not start: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def send(
        self, labels: dict[str, str], annotations: dict[str, str] | None = None, *, ended: bool = False
    ) -> None:
        """Tell it of one alert as Prometheus does."""
        now = datetime.now(UTC)
        ends = now - timedelta(seconds=1) if ended else now + timedelta(minutes=4)
        alert: dict[str, Any] = {
            "labels": labels,
            "annotations": annotations or {},
            "startsAt": "2026-01-02T03:04:05Z",
            "endsAt": ends.isoformat(),
        }
        requests.post(f"{self.url}/api/v2/alerts", json=[alert], timeout=30).raise_for_status()

    def inhibited(self) -> set[str]:
        """The names of the alerts that are silenced by another one."""
        found = requests.get(f"{self.url}/api/v2/alerts", timeout=30).json()
        return {each["labels"]["alertname"] for each in found if each["status"]["inhibitedBy"]}


def shells() -> list[str]:
    """The shells that start.sh must run in: dash or bash as `sh`, and busybox' as in the official image."""
    return ["sh", f"{shutil.which('busybox') or 'busybox'} sh"]
