"""The demo's processes: started in order, watched together, stopped in reverse."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.error import URLError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_STOP_SECONDS = 15


class StartError(Exception):
    """A part of the demo did not come up; the text is for the person at the terminal."""


@dataclass(frozen=True)
class _Running:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Processes:
    """Children of this process, each with a log file of its own under `logs`."""

    logs: Path
    _running: list[_Running] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start one; its output goes to `<name>.log`."""
        path = self.logs / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the commands are our own
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for this process alone, which then stops the others in order.
                start_new_session=True,
            )
        self._running.append(_Running(name, process, path))

    def start_python(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a module of ours with this interpreter."""
        self.start(name, [sys.executable, *arguments], environment)

    def ended(self) -> str | None:
        """A sentence on the first one that is no longer there; None while all run."""
        for each in self._running:
            code = each.process.poll()
            if code is not None:
                return f"{each.name} ended with code {code}; its last words are in {each.log}"
        return None

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a condition.

        Raises:
            StartError: a child ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            ended = self.ended()
            if ended is not None:
                raise StartError(ended)
            if time.monotonic() > deadline:
                raise StartError(f"{what} was not ready within {seconds:g} s; see the logs in {self.logs}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all, the last one started first; whoever does not listen in time is killed."""
        for each in reversed(self._running):
            if each.process.poll() is None:
                each.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for each in reversed(self._running):
            try:
                each.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(each.process.pid, signal.SIGKILL)
                each.process.wait()
        self._running.clear()


_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on now; not twice the same.

    Below those that connections get (ip_local_port_range), one of which could take it meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        if port in _given:
            continue
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            _given.add(port)
            return port


def port_in_use(port: int) -> bool:
    """Whether someone listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def answers(url: str) -> bool:
    """Whether a URL of ours answers with a success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own http address
            return bool(response.status == 200)  # noqa: PLR2004
    except (URLError, OSError):
        return False
