"""Operating system events as hints that a clinic's folder is worth a look before the next full one.

Nothing relies on them: queues overflow silently, network shares send none, and an observer may die
(all measured). So whatever happens here is logged, and the periodic look remains.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from importer.files.tree import LEAVING
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.observers.api import BaseObserver

_log = logs.get(__name__)

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
]


class _Handler(FileSystemEventHandler):
    def __init__(self, inbox: str, tell: Callable[[str], None]) -> None:
        self._prefix = inbox.rstrip("/") + "/"
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        source, target = _text(event.src_path), _text(event.dest_path)
        if target.rpartition("/")[2].startswith(LEAVING):
            return  # the importer itself takes away a file that it has filed
        for text in (source, target):
            name, below, _ = text.removeprefix(self._prefix).partition("/")
            if below and text.startswith(self._prefix):
                self._tell(name)


def _text(path: str | bytes) -> str:
    return path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")


class Hints:
    """Watches the inbox; `tell` gets the name of a folder in which something happened."""

    def __init__(self, inbox: Path, tell: Callable[[str], None]) -> None:
        self._inbox = inbox
        self._tell = tell
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._complained = False
        # It calls its own threads' end an error; whether they live is checked in `ensure`.
        logging.getLogger("watchdog.observers").setLevel(logging.CRITICAL)

    def ensure(self) -> None:
        """Start watching, or start anew when the observer died or the inbox is another folder now."""
        try:
            status = self._inbox.stat()
        except OSError:
            return
        now_there = status.st_dev, status.st_ino
        if self._is_alive() and now_there == self._watched:
            return
        self.stop()
        try:
            self._start()
        except (OSError, RuntimeError) as error:
            self.stop()
            if not self._complained:
                _log.warning("no file system events: relying on periodic scans", exc_info=error)
            self._complained = True
        else:
            self._watched = now_there
            self._complained = False

    def _start(self) -> None:
        observer = Observer()
        handler = _Handler(str(self._inbox), self._tell)
        observer.schedule(handler, str(self._inbox), recursive=True, event_filter=_EVENTS)
        observer.start()
        self._observer = observer

    def _is_alive(self) -> bool:
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and all(emitter.is_alive() for emitter in observer.emitters)
        )

    def stop(self) -> None:
        """Stop watching."""
        observer, self._observer = self._observer, None
        if observer is not None:
            # Its threads end by themselves; waiting for them takes half a second.
            observer.stop()
