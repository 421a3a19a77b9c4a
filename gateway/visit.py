"""One request below /dicom-web on its way through the gateway."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from werkzeug import Request
    from werkzeug.datastructures import MultiDict


@dataclass(slots=True)
class Visit:
    """What is asked, and what becomes known of it on the way, for metrics and the log."""

    request: Request
    route: str = "other"
    subject: str = ""
    started: float = field(default_factory=time.perf_counter)

    @property
    def arguments(self) -> MultiDict[str, str]:
        """The query's parameters."""
        return self.request.args

    @property
    def accept(self) -> str:
        """The media types that are wanted: of the query, or else of the header."""
        # Most requests have no query, and looking into nothing costs more than one thinks.
        asked = self.arguments.get("accept") if self.request.query_string else None
        return asked or self.header("Accept")

    @property
    def was_refused(self) -> bool:
        """Whether this is nginx asking again for what the archive refused to it (`gateway.archive.accel`)."""
        return "HTTP_X_ACCEL_REFUSED" in self.request.environ

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query's parameters in their order, each value of a repeated one too."""
        return list(self.request.args.items(multi=True))

    @property
    def peer(self) -> str:
        """The address of the connection."""
        return self.request.remote_addr or ""

    def header(self, name: str) -> str:
        """A header field's value; empty without one."""
        return self.request.headers.get(name, "")
