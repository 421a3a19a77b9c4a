"""The audit trail as lines for another program."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import select

from admin.auditing.messages import to_xml
from admin.directory.events import Events
from pacs.catalog.audit import iso_utc, pages
from pacs.catalog.schema import audit, studies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from admin.directory import Directory

FORMATS = ("dicom", "jsonl")


def rows(
    connection: Connection, since: datetime | None, until: datetime | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The rows from `since` on and before `until`, oldest first, never many in memory.

    Each with the PatientID of its study, as far as the catalog has that now.
    """
    within = []
    if since is not None:
        within.append(audit.c.at >= since)
    if until is not None:
        within.append(audit.c.at < until)
    for page in pages(connection, *within):
        patients = _patients(connection, {row["study_uid"] for row in page})
        yield from ((row, patients.get(row["study_uid"], "")) for row in page)


def _patients(connection: Connection, study_uids: set[str | None]) -> dict[str, str]:
    found = select(studies.c.study_uid, studies.c.patient_id).where(
        studies.c.study_uid.in_(study_uids - {None})
    )
    return {row.study_uid: row.patient_id for row in connection.execute(found)}


def identity_events(
    directory: Directory, since: datetime | None, until: datetime | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What the identity provider has on record of the same time, as rows without a patient, newest first.

    Raises:
        DirectoryError: it keeps none, or, while iterating, does not tell us.
    """
    found = [directory.events(which, since, until) for which in (Events.SIGN_INS, Events.CHANGES)]
    return ((each.as_row(), "") for each in chain.from_iterable(found))


def lines(found: Iterable[tuple[Mapping[str, Any], str]], how: str) -> Iterator[str]:
    """One line a row; in `dicom`, where the patient counts, the first and last make a document of them."""
    if how == "jsonl":
        for row, _patient_id in found:
            yield json.dumps({**row, "at": iso_utc(row["at"])}, sort_keys=True, separators=(",", ":"))
        return
    yield '<?xml version="1.0" encoding="UTF-8"?><AuditMessages>'
    yield from (to_xml(row, patient_id) for row, patient_id in found)
    yield "</AuditMessages>"


@contextmanager
def written(path: Path | None) -> Iterator[IO[str]]:
    """Stdout, or a file of this name that is there when it is complete, and nobody else's to read.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
