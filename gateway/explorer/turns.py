"""What the gateway's processes do once, and not each for itself."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gateway.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.clock import Clock
    from gateway.explorer.cookies import Seal

_TURN_SECONDS = 5
_LOOK_SECONDS = 0.02
_KEPT_SECONDS = 600
_BUSY = "Too many requests wait for the same sign-in to be renewed. Please try again."


class Turns:
    """One folder for all processes of this user on this machine, with a sealed file for each thing done.

    A file's lock ends with the process that holds it.
    """

    def __init__(self, seal: Seal, clock: Clock) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"clinicpacs-gateway-{os.getuid()}"
        self._seal = seal
        self._clock = clock

    def once(self, name: str, do: Callable[[], tuple[dict[str, Any], int]]) -> dict[str, Any]:
        """What `do` says, or what it said to whoever came first with this name.

        Args:
            name: a secret; it is kept as a hash.
            do: gives values that JSON can hold, and the seconds for which they are told to others.

        Raises:
            Unavailable: the others take too long.
            OSError: the folder cannot be used, or is somebody else's.
        """
        self._tidy()
        path = self._folder / hashlib.sha256(name.encode()).hexdigest()
        with path.open("a+", encoding="ascii") as file:
            _lock(file)
            file.seek(0)
            said = self._seal.open(file.read(), self._clock.now())
            if said is not None:
                return said
            values, seconds = do()
            file.truncate(0)
            file.write(self._seal.close(values, self._clock.now(), seconds))
        return values

    def _tidy(self) -> None:
        """The folder is there and ours, and what is long past is gone."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()  # of a link, whose mode lets everybody in
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{self._folder} is not this user's alone")
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    path.unlink()


def _lock(file: IO[str]) -> None:
    """Wait for the file's lock, but not as long as an issuer may be silent: threads are few."""
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(_BUSY) from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
