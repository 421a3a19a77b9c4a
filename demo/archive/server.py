"""The archive as a process of its own: gunicorn with one worker of several threads, on loopback."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from demo.archive.app import create_archive
from demo.archive.storage import lock
from gateway.server import GatewayLogger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask

_READY = "archive: listening on "
_THREADS = 16


class _Server(BaseApplication):
    def __init__(self, app: Flask, port: int) -> None:
        self._app = app
        self._port = port
        super().__init__()  # type: ignore[no-untyped-call]

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": _THREADS,
            "timeout": 0,
            "graceful_timeout": 3,
            "keepalive": 75,
            "limit_request_line": 8190,
            "loglevel": "warning",
            # gunicorn's own words would hold paths and the texts of exceptions.
            "logger_class": GatewayLogger,
            "proc_name": "archive",
            "control_socket_disable": True,
            # By default SCRIPT_NAME of any local client is taken for the truth.
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "when_ready": _announce,
        }
        for name, value in options.items():
            self.cfg.set(name, value)  # type: ignore[union-attr]

    def load(self) -> Flask:
        return self._app


def _announce(arbiter: Any) -> None:
    host, port = arbiter.LISTENERS[0].getsockname()
    print(f"{_READY}http://{host}:{port}/dicom-web", flush=True)


def run(root: Path, port: int, *, username: str, password: str, max_bytes: int | None, reindex: bool) -> None:
    """Serve a folder until SIGTERM or SIGINT; prints one line with the URL when it listens.

    Raises:
        ArchiveInUseError: when another process serves the folder.
    """
    with lock(root):
        app = create_archive(root, username=username, password=password, max_bytes=max_bytes, reindex=reindex)
        # Connections to SQLite must not be carried across gunicorn's fork.
        app.extensions["storage"].index.close()
        _Server(app, port).run()  # type: ignore[no-untyped-call]


@dataclass
class ArchiveProcess:
    """A running archive.

    Attributes:
        url: its DICOMweb root.
        process: the process; its death is the archive's.
    """

    url: str
    process: subprocess.Popen[str]

    def stop(self, timeout: float = 15) -> None:
        """End it, politely first; seconds of patience."""
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(
    root: Path,
    *,
    port: int = 0,
    username: str = "",
    password: str = "",
    max_bytes: int | None = None,
    timeout: float = 60,
) -> ArchiveProcess:
    """Start an archive and wait until it listens (rebuilding a large index takes its time).

    Args:
        root: the folder to serve; it also gets the process's log.
        port: on loopback; 0 takes a free one.
        username: for basic authentication.
        password: likewise; empty asks for none.
        max_bytes: refuse to store more than this.
        timeout: seconds until it has to listen.

    Raises:
        RuntimeError: when it ends or does not listen in time.
    """
    command = [sys.executable, "-m", "demo.archive", "--port", str(port), "--root", str(root)]
    if max_bytes is not None:
        command += ["--max-bytes", str(max_bytes)]
    environment = {**os.environ, "ARCHIVE_USERNAME": username, "ARCHIVE_PASSWORD": password}
    root.mkdir(parents=True, exist_ok=True)
    with (root / "archive.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    archive = ArchiveProcess("", process)
    try:
        archive.url = _read_url(process, timeout)
    except BaseException:
        archive.stop()
        raise
    return archive


@contextmanager
def running(root: Path, **options: Any) -> Iterator[ArchiveProcess]:
    """``start`` and, at the end, ``stop``."""
    archive = start(root, **options)
    try:
        yield archive
    finally:
        archive.stop()


def _read_url(process: subprocess.Popen[str], timeout: float) -> str:
    deadline = time.monotonic() + timeout
    output = process.stdout
    while output is not None and (left := deadline - time.monotonic()) > 0:
        if not select.select([output], [], [], left)[0]:
            break
        line = output.readline()
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
        if not line:
            raise RuntimeError(f"the archive ended with code {process.wait()} before it listened")
    raise RuntimeError(f"the archive did not listen within {timeout:g} s")
