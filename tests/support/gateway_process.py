"""The gateway as processes of its own: `python -m gateway`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from support.gateway import PUBLIC
from support.importing import wait_until
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.gateway import Issuer

ROOT = Path(__file__).parents[2]


def environment(issuer: Issuer, archive_url: str, database: str, port: int) -> dict[str, str]:
    """Its settings as environment variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "DATABASE_URL": database,
        "ARCHIVE_URL": archive_url,
        "OIDC_ISSUER": issuer.issuer,
        "PUBLIC_URL": PUBLIC,
        "GATEWAY_PORT": str(port),
        "GATEWAY_WORKERS": "2",
        "GATEWAY_THREADS": "4",
        "GATEWAY_CLIENT_SECONDS": "1",
    }


@dataclass
class GatewayProcess:
    """gunicorn's own process; its log is a `*.log`, so that it is searched for patient data."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def raw(self, request: bytes) -> bytes:
        """What is answered to these bytes."""
        with socket.create_connection((self.host, self.port), timeout=30) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(60)

    def _is_ready(self) -> bool:
        assert self.popen.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def wait_ready(self) -> None:
        """Until it serves, having all that it needs."""
        wait_until(self._is_ready, 120)


@contextmanager
def running_gateway(
    issuer: Issuer,
    archive_url: str,
    database: str,
    log: Path,
    through: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
) -> Iterator[GatewayProcess]:
    """Ready to be asked; `through` is a command that becomes the gateway, having changed what it may do."""
    port = free_port()
    with log.open("wb") as file:
        popen = subprocess.Popen(
            [*through, sys.executable, "-m", "gateway"],
            env=environment(issuer, archive_url, database, port) | {"GATEWAY_HOST": host},
            cwd=ROOT,
            stdout=file,
            stderr=file,
        )
    made = GatewayProcess(popen, port, log, host)
    try:
        made.wait_ready()
        yield made
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.wait(10)
