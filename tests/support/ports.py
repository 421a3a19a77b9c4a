"""Ports for servers that the tests start."""

from __future__ import annotations

import socket
from contextlib import suppress

from demo import processes

_held: list[socket.socket] = []


def free_port() -> int:
    """One that nobody listens on; no other process of the tests gets it as long as this one lives.

    Who asks for one starts a server later, and the workers of a run draw at the same time: a name in Linux's
    abstract namespace, which ends with its process, says which are taken.
    """
    while True:
        port, taken = processes.free_port(), socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            taken.bind(f"\0clinicpacs-tests-port-{port}")
            _held.append(taken)
            return port
        taken.close()
