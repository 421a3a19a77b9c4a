"""Whether the inbox is there: as the scanner found it, and whether the scanner gets on with looking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from importer.pulse import Pulse
from pacs import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.metrics import ImporterMetrics
    from pacs.ids import ClinicId

_log = logs.get(__name__)

SILENT_SECONDS = 120.0
"""A look that gets on with nothing for so long hangs, on a network share whose server is gone, say."""


class Presence:
    """Told by the scanner's thread, asked from any."""

    def __init__(self, metrics: ImporterMetrics, clock: Callable[[], float]) -> None:
        self.pulse = Pulse(clock)
        self.looking_at: ClinicId | None = None
        self._found = True
        self._hangs = False
        metrics.inbox_up.set_function(lambda: self.up)

    @property
    def up(self) -> bool:
        """Whether all of it could be read at the last look, and the one under way gets on."""
        return self._found and not self._is_silent

    @property
    def _is_silent(self) -> bool:
        return self.pulse.silence >= SILENT_SECONDS

    def found(self, *, up: bool) -> None:
        """A look is over."""
        if up != self._found:
            self._found = up
            if up:
                _log.info("the inbox is back")
            else:
                _log.error("the inbox, or a clinic's folder in it, is gone: files wait until it is back")

    def watch(self) -> None:
        """Log it once when a look hangs, and once when it gets on; for a thread that does not look itself."""
        hangs = self._is_silent
        if hangs and not self._hangs:
            _log.error("the inbox scan hangs: no new file is seen", clinic=self.looking_at)
        if self._hangs and not hangs:
            _log.info("the inbox scan makes progress again")
        self._hangs = hangs
