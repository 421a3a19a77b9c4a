"""The production stack of the end-to-end run: docker-compose.yml as administrators meet it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_COMMAND_SECONDS = 900


def wait_until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.5) -> Any:
    """The condition's first true answer; the test fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}; the last answer was {answer!r}")
        time.sleep(every)


@dataclass
class Stack:
    """A copy of the repository with its `.env`, and the containers that run from it.

    Attributes:
        root: The copy.
        seconds: How long each stage took, for the report.
    """

    root: Path
    seconds: dict[str, float] = field(default_factory=dict)

    # --- commands ---

    def run(
        self,
        *command: str,
        check: bool = True,
        variables: Mapping[str, str] | None = None,
        text_in: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the copy, as an administrator would; fails the test with its output."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, **(variables or {})},
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}\n{said}")
        return done

    def compose(self, *arguments: str, check: bool = True, text_in: str | None = None) -> str:
        """`docker compose ...`; what it wrote to standard output."""
        return self.run("docker", "compose", *arguments, check=check, text_in=text_in).stdout

    def make(self, target: str, **variables: str) -> str:
        """`make TARGET NAME=value ...`; what it wrote."""
        done = self.run("make", target, *(f"{name}={value}" for name, value in variables.items()))
        return done.stdout + done.stderr

    def clinicpacs(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The administrators' command, in its container."""
        return self.run("docker", "compose", "run", "--rm", "-T", "admin", *arguments, check=check)

    # --- state ---

    @property
    def settings(self) -> dict[str, str]:
        """What `.env` says."""
        lines = (self.root / ".env").read_text(encoding="utf-8").splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {name: value.strip("'") for name, _, value in pairs}

    @property
    def secrets(self) -> dict[str, str]:
        """Those of them that nobody may read; setup made each of 40 letters and digits."""
        return {
            name: value
            for name, value in self.settings.items()
            if re.search("(_PASSWORD|_SECRET|_SECRET_KEY|_TOKEN)$", name) and value
        }

    @property
    def url(self) -> str:
        """PUBLIC_URL."""
        return self.settings["PUBLIC_URL"]

    @property
    def certificate(self) -> str:
        """Path of the certificate that clients trust."""
        return str(self.root / "certs" / "fullchain.pem")

    def path(self, kind: str, clinic: str) -> Path:
        """A clinic's folder in `inbox`, `processed` or `failed`, on the host."""
        return self.root / self.settings["DATA_PATH"] / kind / clinic

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Compose knows of each service's container, by the service's name."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {entry["Service"]: entry for entry in map(json.loads, lines)}

    def unhealthy(self) -> list[str]:
        """Services that are not running and healthy; one-shot services that ended well are."""
        bad = []
        for name, entry in self.containers().items():
            ended_well = entry["State"] == "exited" and entry["ExitCode"] == 0 and name == "migrate"
            if entry.get("Health") != "healthy" and not ended_well and name != "mail":
                bad.append(f"{name}: {entry['State']} {entry.get('Health')}")
        return bad

    def wait_until_healthy(self, seconds: float = 300) -> None:
        """Waits for every service."""
        wait_until(lambda: not self.unhealthy(), seconds, "all services are healthy", every=2)

    def logs(self, *services: str) -> str:
        """All log lines of services."""
        return self.compose("logs", "--no-color", *services)

    def address(self, service: str) -> str:
        """Its IP address in the network `application`."""
        container = self.compose("ps", "--quiet", service).strip()
        [inspected] = json.loads(self.run("docker", "inspect", container).stdout)
        networks = inspected["NetworkSettings"]["Networks"].items()
        [found] = [network["IPAddress"] for name, network in networks if name.endswith("_application")]
        return str(found)

    @contextmanager
    def following(self, service: str, file: Path) -> Iterator[None]:
        """A service's log lines in a file, as they come, until the block ends."""
        command = ["docker", "compose", "logs", "--no-color", "--no-log-prefix", "--follow", service]
        with file.open("wb") as output:
            process = subprocess.Popen(command, cwd=self.root, stdout=output, stdin=subprocess.DEVNULL)
            try:
                yield
            finally:
                process.terminate()
                process.wait(20)

    # --- requests ---

    def get(self, path: str, token: str | None = None, **options: Any) -> requests.Response:
        """GET below PUBLIC_URL; not following redirects."""
        return self.request("GET", path, token, **options)

    def request(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        """A request below PUBLIC_URL, over TLS that is checked against the installation's own certificate."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers.update(options.pop("headers", {}))
        options.setdefault("timeout", 60)
        options.setdefault("allow_redirects", False)
        return requests.request(
            method, f"{self.url}{path}", headers=headers, verify=self.certificate, **options
        )

    def scripts_token(self, *, check: bool = True) -> str:
        """An access token of the client `orthanc-scripts`: an administrator's; empty without `check`."""
        answer = self.request(
            "POST",
            "/auth/realms/clinicpacs/protocol/openid-connect/token",
            data={
                "grant_type": "client_credentials",
                "client_id": "orthanc-scripts",
                "client_secret": self.settings["SCRIPTS_CLIENT_SECRET"],
            },
        )
        if answer.status_code != 200 and not check:
            return ""
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def promql(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query, asked inside the application network."""
        address = f"http://127.0.0.1:9090/api/v1/query?{urlencode({'query': query})}"
        said = self.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", address)
        result: list[dict[str, Any]] = json.loads(said)["data"]["result"]
        return result

    def metric(self, query: str) -> float | None:
        """The one value of an instant query; None if there is none."""
        result = self.promql(query)
        return float(result[0]["value"][1]) if result else None

    def mails(self) -> list[Path]:
        """The alerts' mails so far, oldest first."""
        box = self.root / "mail" / "box" / "new"
        return sorted(box.glob("*"), key=lambda path: path.stat().st_mtime_ns) if box.is_dir() else []


def prepare(root: Path, compose_file: str) -> Stack:
    """Set up the copy at ROOT as an administrator would, with what a test run must have otherwise.

    Only ports, waiting times and the mail server differ from what `setup.sh` writes by itself.
    """
    https, http = os.environ.get("E2E_HTTPS_PORT", "443"), os.environ.get("E2E_HTTP_PORT", "80")
    name = os.environ.get("E2E_NAME", "stack")
    settings = {
        "COMPOSE_FILE": compose_file,
        "COMPOSE_PROJECT_NAME": f"clinicpacs-e2e-{name}",
        "HTTP_PORT": http,
        "HTTPS_PORT": https,
        "PUBLIC_URL": "https://localhost" if https == "443" else f"https://localhost:{https}",
        "APPLICATION_SUBNET": os.environ.get("E2E_SUBNET", "172.30.240.0/24"),
        "COOLDOWN_SECONDS": "2",
        "RESCAN_SECONDS": "2",
        "ARCHIVE_STABLE_AGE_SECONDS": "5",
        "ALERT_EMAIL_TO": "operator@example.org",
        "ALERT_EMAIL_FROM": "clinicpacs@example.org",
        "SMTP_HOST": "mail",
        "SMTP_PORT": "1025",
        "SMTP_REQUIRE_TLS": "false",
        "ALERT_GROUP_WAIT": "5s",
        "ALERT_GROUP_INTERVAL": "5s",
        "DOCKER_ROOT": str(root.parents[2] / ".cache/e2e/engine/data"),
    }
    (root / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (root / "mail").mkdir()
    stack = Stack(root)
    began = time.monotonic()
    stack.run("./scripts/setup.sh", "--yes")
    stack.seconds["setup"] = time.monotonic() - began
    uid, gid = int(stack.settings["PACS_UID"]), int(stack.settings["PACS_GID"])
    shutil.chown(root / "mail", uid, gid)
    began = time.monotonic()
    stack.make("up")
    stack.wait_until_healthy()
    stack.seconds["up"] = time.monotonic() - began
    return stack
