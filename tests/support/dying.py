"""The importer as a process that is killed before any one of its steps, without knowing of it.

A step is whatever cannot be taken back: a change of a folder, a file forced to disk, a transaction
committed, bytes sent or an answer received. Each has the name of the function that takes it. The process
kills itself just before the n-th of one name, and tells which it has taken: so all places are found where a
crash can fall. `python -m support.dying` reads orders and forks a process for each, which spares the imports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CHANGES = ("mkdir", "rmdir", "unlink", "rename", "link", "fsync", "utime", "sendfile")
_OURS = ("importer.", "pacs.")
_FOR_ALL = ("pacs.catalog.engine.", "pacs.archive.body.", "importer.files.tree.rename_noreplace")


@dataclass
class Steps:
    """Counts what is done, and ends the process before the step that was ordered."""

    fatal: str
    number: int
    report: Path
    begun: bool = False
    taken: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, what: str) -> None:
        if not self.begun:
            return
        step = f"{_place()}: {what}"
        with self._lock:
            self.taken[step] += 1
            if step == self.fatal and self.taken[step] == self.number:
                self.tell()
                os.kill(os.getpid(), signal.SIGKILL)

    def tell(self) -> None:
        self.report.write_text(json.dumps(self.taken))

    def before(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.take(what)
            return function(*arguments, **named)

        return counted

    def around(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.take(what)
            found = function(*arguments, **named)
            self.take(f"{what}, done")
            return found

        return counted


def _place() -> str:
    """The innermost function of ours that is at work, and does not do this for all others."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        place = f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}"
        if place.startswith(_OURS) and not place.startswith(_FOR_ALL):
            return place
        frame = frame.f_back
    return "outside"


def _watch(steps: Steps) -> None:
    from sqlalchemy import Connection, event  # noqa: PLC0415 - not in the process that only gives orders
    from sqlalchemy.engine import Engine  # noqa: PLC0415

    from importer import daemon  # noqa: PLC0415
    from importer.files import tree  # noqa: PLC0415

    for name in _CHANGES:
        setattr(os, name, steps.before(name, getattr(os, name)))
    opened = os.open

    def watched_open(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            steps.take("create")
        return opened(path, flags, *arguments, **named)

    os.open = watched_open
    tree._RENAMEAT2 = steps.before("renameat2", tree._RENAMEAT2)  # type: ignore[arg-type]
    socket.socket.sendall = steps.before("send", socket.socket.sendall)  # type: ignore[method-assign]
    socket.socket.recv_into = steps.around("receive", socket.socket.recv_into)  # type: ignore[method-assign]

    @event.listens_for(Engine, "commit")
    def commit(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            steps.take("commit")

    start = daemon.Importer.start

    def begin(importer: daemon.Importer) -> None:
        steps.begun = True
        start(importer)

    daemon.Importer.start = begin  # type: ignore[method-assign]


def _live(order: dict[str, Any]) -> int:
    """One life of the importer; returns its exit code, or does not."""
    from importer import __main__ as importer  # noqa: PLC0415
    from importer import bookkeeper  # noqa: PLC0415

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    bookkeeper.ORPHAN_SECONDS = order["orphan_seconds"]
    steps = Steps(order["fatal"], order["number"], Path(order["report"]))
    _watch(steps)
    code = importer.main(["--once", "--patience", "20"])
    steps.begun = False
    steps.tell()
    return code


def _serve() -> None:
    from importer import __main__ as _importer  # noqa: F401, PLC0415 - before the forks

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_live(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


class Lives:
    """Importers of one platform, one after the other."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._folder = folder
        self._served = subprocess.Popen(
            [sys.executable, "-m", "support.dying"],
            env={**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}:{Path(__file__).parents[1]}"},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def live(
        self, fatal: str = "", number: int = 1, *, orphan_seconds: float = 300
    ) -> tuple[int, Counter[str]]:
        """Run until all is done, or until the n-th step of that name; the exit code, and the steps taken."""
        report = self._folder / "steps"
        log = self._folder / "importer.log"
        order = {"fatal": fatal, "number": number, "report": str(report), "log": str(log)}
        order["orphan_seconds"] = orphan_seconds
        assert self._served.stdin
        assert self._served.stdout
        self._served.stdin.write(json.dumps(order) + "\n")
        self._served.stdin.flush()
        code = int(self._served.stdout.readline())
        return code, Counter(json.loads(report.read_text()))

    def close(self) -> None:
        self._served.stdin.close()  # type: ignore[union-attr]
        assert self._served.wait(60) == 0
        self._served.stdout.close()  # type: ignore[union-attr]


if __name__ == "__main__":
    _serve()
