"""Imports in the audit trail: that one has begun, then one row for each study folder and outcome.

Outcomes are added up in memory and lost with a process that is killed. That an import has begun is not: it is
committed with the study's reservation, before the archive gets the first byte, so that there is no stored
study whose import is not on record. One that was broken off begins anew, with another row.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pacs.catalog.audit import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pacs.catalog.imports import ImportRow
    from pacs.ids import ClinicId, Uid

BEGUN = "import-begun"
ACTION = "study-imported"
"""`detail` is the outcome, with the reasons of what failed; no folder: it may be named after a patient."""
_SUBJECT = "service:importer"


def events(rows: Iterable[ImportRow]) -> list[AuditEvent]:
    """The audit rows of these imports; failed files of one folder are one."""
    folders: dict[tuple[object, ...], list[ImportRow]] = {}
    for row in rows:
        folders.setdefault((row.clinic_id, row.folder, row.study_uid, row.outcome), []).append(row)
    return [_event(each) for each in folders.values()]


def begun(clinic_id: ClinicId, study_uid: Uid) -> AuditEvent:
    """The audit row of a study whose first file is about to be sent, whatever then becomes of it."""
    return AuditEvent(
        action=BEGUN,
        subject=_SUBJECT,
        clinic_id=clinic_id,
        study_uid=study_uid,
        source=socket.gethostname(),
    )


def restored(clinic_id: ClinicId, study_uid: Uid) -> AuditEvent:
    """The audit row of a study that the catalog had lost; `clinicpacs reindex` writes the same."""
    return AuditEvent(
        action="restore-owner",
        subject=_SUBJECT,
        clinic_id=clinic_id,
        study_uid=study_uid,
        source=socket.gethostname(),
    )


def _event(rows: list[ImportRow]) -> AuditEvent:
    reasons = ", ".join(sorted({row.reason for row in rows if row.reason}))
    first = rows[0]
    return AuditEvent(
        action=ACTION,
        subject=_SUBJECT,
        clinic_id=first.clinic_id,
        study_uid=first.study_uid,
        source=socket.gethostname(),
        allowed=first.outcome != "failed",
        detail=f"{first.outcome}: {reasons}" if reasons else first.outcome,
        count=sum(row.files for row in rows),
    )
