"""Folders that stay open from one file to the next, for as long as a batch is handled."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

_Opened = TypeVar("_Opened")


class _Kept(NamedTuple):
    parts: tuple[str, ...]
    opened: Any
    close: ExitStack


class KeptFolders(threading.local):
    """Each thread's own: the folder of each tree that it used last, while it is `keeping` them.

    The way to a folder is half of the system calls of a file, and nearly all files of a batch share it.
    Whoever moves a folder away meanwhile takes it from under files that are about to be moved anyway.
    """

    def __init__(self) -> None:
        self._keeps = False
        self._kept: dict[Path, _Kept] = {}

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Until the block ends, this thread's folders stay open until another one of their tree is used."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            while self._kept:
                self._kept.popitem()[1].close.close()

    @contextmanager
    def use(
        self, root: Path, parts: Sequence[str], enter: Callable[[], AbstractContextManager[_Opened]]
    ) -> Iterator[_Opened]:
        """What `enter` opens for `parts` below `root`, if it is not the one kept."""
        if not self._keeps:
            with enter() as opened:
                yield opened
            return
        kept = self._kept.get(root)
        if kept is None or kept.parts != tuple(parts):
            if kept is not None:
                del self._kept[root]
                kept.close.close()
            close = ExitStack()
            kept = self._kept[root] = _Kept(tuple(parts), close.enter_context(enter()), close)
        yield kept.opened
