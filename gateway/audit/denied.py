"""Refusals, added up and written as one row for each subject, study and address."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.audit.gathered import Gathered
from gateway.audit.opened import ACTION
from pacs.catalog.audit import AuditEvent

if TYPE_CHECKING:
    from gateway.access.caller import Caller
    from pacs.ids import ClinicId, Uid


class Denials(Gathered):
    """Who was refused what."""

    def record(
        self,
        caller: Caller,
        study_uid: Uid | None,
        owner: ClinicId | None,
        source: str,
        action: str = ACTION,
    ) -> None:
        """Count one refusal; costs the same whether the study exists or not."""
        event = AuditEvent(
            action, caller.subject, caller.username, owner, study_uid, source=source, allowed=False
        )
        self.add(event)

    @staticmethod
    def coarser(event: AuditEvent) -> AuditEvent:
        """See `Gathered.coarser`."""
        detail = "several studies" if event.action == ACTION else ""
        return replace(event, clinic_id=None, study_uid=None, detail=detail)
