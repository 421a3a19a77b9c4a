"""Searches for studies, added up and written as one row for each subject, query and address."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.audit.gathered import Gathered
from pacs.catalog.audit import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.access.caller import Caller

ACTION = "studies-searched"
"""`detail` is the query, decoded, which may hold a patient's name: that is what was looked for."""
_QUERY_MAX = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Searches(Gathered):
    """Who searched for what."""

    def record(self, caller: Caller, query: Iterable[tuple[str, str]], source: str) -> None:
        """Count one search.

        Args:
            caller: who searched.
            query: names and values of the parameters; whatever they hold, the row is one line of text.
            source: address of the client.
        """
        told = "&".join(f"{name}={value}" for name, value in query)[:_QUERY_MAX]
        detail = _CONTROL.sub("?", told)
        self.add(AuditEvent(ACTION, caller.subject, caller.username, source=source, detail=detail))

    @staticmethod
    def coarser(event: AuditEvent) -> AuditEvent:
        """See `Gathered.coarser`."""
        return replace(event, detail="several searches")
