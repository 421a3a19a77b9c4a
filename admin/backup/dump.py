r"""Reads a dump as `pg_restore --data-only --file=-` writes it: what is counted is what will be restored.

Each table is a line `COPY public.studies (study_uid, ...) FROM stdin;`, a line a row, its values separated by
tabs, and `\.` (PostgreSQL's documentation of COPY, "Text Format"). No row holds a line break of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_COPY = re.compile(rb"COPY ([^(]+?) \((.*)\) FROM stdin;\n")
_END = b"\\.\n"

# Orthanc's ResourceType, OrthancFramework/Sources/Enumerations.h.
RESOURCES = {b"0": "patients", b"1": "studies", b"2": "series", b"3": "instances"}


class TruncatedDumpError(ValueError):
    """The text ends within a table."""


class Attached(NamedTuple):
    """A file of the archive as its index knows it: its name, and its size on the disk in bytes."""

    uuid: str
    size: int


class Counted(NamedTuple):
    """Rows by table; the archive's resources by level; the catalog's schema, empty in other databases."""

    rows: dict[str, int]
    resources: dict[str, int]
    revision: str


class _Reader:
    """One pass over a dump; `attached` is told of every file that the archive's index names."""

    def __init__(self, attached: Callable[[Attached], None]) -> None:
        self.rows: dict[str, int] = {}
        self.levels: Counter[bytes] = Counter()
        self.revision = ""
        self._attached = attached

    def read(self, lines: Iterable[bytes]) -> None:
        lines = iter(lines)
        for line in lines:
            found = _COPY.fullmatch(line)
            if found:
                table = found[1].decode()
                columns = found[2].decode().split(", ")
                self.rows[table] = self._table(table, columns, lines)

    def _table(self, table: str, columns: list[str], lines: Iterable[bytes]) -> int:
        look = self._look(table, columns)
        for rows, line in enumerate(lines):
            if line == _END:
                return rows
            if look is not None:
                look(line[:-1].split(b"\t"))
        raise TruncatedDumpError(f"the dump ends within the table {table}")

    def _look(self, table: str, columns: list[str]) -> Callable[[list[bytes]], None] | None:
        if table == "public.resources" and "resourcetype" in columns:
            level = columns.index("resourcetype")
            return lambda row: self.levels.update((row[level],))
        if table == "public.attachedfiles":
            uuid, size = columns.index("uuid"), columns.index("compressedsize")
            return lambda row: self._attached(Attached(row[uuid].decode("ascii"), int(row[size])))
        if table == "public.alembic_version":
            return lambda row: setattr(self, "revision", row[0].decode())
        return None


def count(lines: Iterable[bytes], attached: Callable[[Attached], None] = lambda _file: None) -> Counted:
    """Count the rows of every table.

    Args:
        lines: of the text, each with its line break.
        attached: gets every file that the archive's index names, if it is the archive's dump.

    Raises:
        TruncatedDumpError: the text ends within a table.
        ValueError: a value is not what its column holds.
    """
    reader = _Reader(attached)
    reader.read(lines)
    is_archive = "public.resources" in reader.rows
    resources = {name: reader.levels[number] for number, name in RESOURCES.items()} if is_archive else {}
    return Counted(reader.rows, resources, reader.revision)
