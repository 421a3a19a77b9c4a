"""The audit trail as lines for another program."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from admin.auditing.messages import to_xml
from pacs.catalog.audit import pages, told_time
from pacs.catalog.schema import audit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

FORMATS = ("dicom", "jsonl")


def rows(
    connection: Connection, since: datetime | None, until: datetime | None
) -> Iterator[Mapping[str, Any]]:
    """The rows from `since` on and before `until`, oldest first, never many in memory."""
    within = []
    if since is not None:
        within.append(audit.c.at >= since)
    if until is not None:
        within.append(audit.c.at < until)
    for page in pages(connection, *within):
        yield from page


def lines(found: Iterable[Mapping[str, Any]], how: str) -> Iterator[str]:
    """One line a row; in `dicom` the first and the last one make an XML document of them."""
    if how == "jsonl":
        for row in found:
            yield json.dumps({**row, "at": told_time(row["at"])}, sort_keys=True, separators=(",", ":"))
        return
    yield '<?xml version="1.0" encoding="UTF-8"?><AuditMessages>'
    yield from map(to_xml, found)
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
