"""The archive's index: an SQLite database beside the files, rebuilt from them when it is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    delete,
    event,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert

from demo.archive.attributes import INDEXED, MODALITY, SOP_CLASS_UID, Level
from demo.archive.errors import UnreadableInstanceError
from demo.archive.json_model import JsonDataset, JsonElement, json_element
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydicom.dataset import Dataset
    from sqlalchemy import Connection, Engine

_SCHEMA_VERSION = 1

_metadata = MetaData()


def _columns() -> list[Column[Any]]:
    # Ids are never used again (AUTOINCREMENT), so that ORDER BY id pages through a growing archive.
    return [
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("attributes", Text, nullable=False),
        Column("keys", Text, nullable=False),
    ]


studies = Table(
    "studies",
    _metadata,
    *_columns(),
    Column("study_uid", String, nullable=False, unique=True),
    Column("source_series", String, nullable=False),
    Column("source_sop", String, nullable=False),
    sqlite_autoincrement=True,
)
series = Table(
    "series",
    _metadata,
    *_columns(),
    Column("study_uid", String, nullable=False),
    Column("series_uid", String, nullable=False, index=True),
    Column("modality", String, nullable=False),
    Column("source_series", String, nullable=False),
    Column("source_sop", String, nullable=False),
    UniqueConstraint("study_uid", "series_uid"),
    sqlite_autoincrement=True,
)
instances = Table(
    "instances",
    _metadata,
    *_columns(),
    Column("study_uid", String, nullable=False),
    Column("series_uid", String, nullable=False),
    Column("sop_uid", String, nullable=False, index=True),
    UniqueConstraint("study_uid", "series_uid", "sop_uid"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class InstanceKey:
    """What names an instance, its file and its row."""

    study: Uid
    series: Uid
    sop: Uid


@dataclass(frozen=True)
class InstanceEntry:
    """What the index keeps of an instance, for each level of the information model."""

    key: InstanceKey
    sop_class: str
    attributes: dict[Level, JsonDataset]


def entry_of(header: Dataset) -> InstanceEntry:
    """The index entry of a file.

    Raises:
        UnreadableInstanceError: when one of its three UIDs is missing or malformed.
    """
    attributes = {
        level: {
            tag: element
            for tag in INDEXED[level]
            if (element := json_element(header, int(tag, 16))) is not None
        }
        for level in Level
    }
    try:
        key = InstanceKey(
            *(Uid(str(header.get(f"{name}InstanceUID") or "")) for name in ("Study", "Series", "SOP"))
        )
    except (InvalidUidError, ValueError) as error:
        raise UnreadableInstanceError("a UID is missing or malformed") from error
    sop_class = "".join(attributes[Level.INSTANCE].get(SOP_CLASS_UID, {}).get("Value", [])[:1])
    return InstanceEntry(key, sop_class, attributes)


def search_text(element: JsonElement) -> str:
    """An element's values as one text for comparisons that ignore case."""
    values = element.get("Value", [])
    if element["vr"] == "PN":
        values = ["=".join(name.get(group, "") for group in _NAME_GROUPS).rstrip("=") for name in values]
    return "\\".join(str(value) for value in values).casefold()


_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


class Index:
    """Studies, series and instances with their searchable attributes.

    Attributes of a study or series are those of its first instance. When that instance is stored
    again, they follow it. A study whose instances name different patients stays one study.

    Args:
        path: the database file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.engine: Engine = create_engine(
            f"sqlite:///{path}",
            hide_parameters=True,
            connect_args={"timeout": 30},
            pool_size=8,
            max_overflow=24,
        )
        event.listen(self.engine, "connect", _set_pragmas)

    def is_complete(self) -> bool:
        """Whether the database was built to its end, by this version."""
        with self.engine.connect() as connection:
            return connection.execute(text("PRAGMA user_version")).scalar() == _SCHEMA_VERSION

    def rebuild(self, entries: Iterable[InstanceEntry]) -> int:
        """Replace everything by these entries, in one transaction; returns their number."""
        count = 0
        with self.engine.begin() as connection:
            _metadata.drop_all(connection)
            _metadata.create_all(connection)
            for entry in entries:
                _upsert(connection, entry)
                count += 1
            connection.execute(text(f"PRAGMA user_version = {_SCHEMA_VERSION}"))
        return count

    def add(self, entries: Iterable[InstanceEntry]) -> None:
        """Insert or update instances, all or none, durably."""
        with self.engine.begin() as connection:
            for entry in entries:
                _upsert(connection, entry)

    def remove(self, study: Uid) -> None:
        """Forget a study, all or nothing, durably."""
        with self.engine.begin() as connection:
            for table in (instances, series, studies):
                connection.execute(delete(table).where(table.c.study_uid == study))

    def instance_keys(
        self, study: Uid, series_uid: Uid | None = None, sop: Uid | None = None
    ) -> list[InstanceKey]:
        """The instances of a study or series, or one of them, in the order they were first stored."""
        columns = (instances.c.study_uid, instances.c.series_uid, instances.c.sop_uid)
        statement = select(*columns).where(instances.c.study_uid == study).order_by(instances.c.id)
        if series_uid is not None:
            statement = statement.where(instances.c.series_uid == series_uid)
        if sop is not None:
            statement = statement.where(instances.c.sop_uid == sop)
        with self.engine.connect() as connection:
            return [InstanceKey(Uid(a), Uid(b), Uid(c)) for a, b, c in connection.execute(statement)]

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _set_pragmas(connection: Any, _record: object) -> None:
    # FULL: an instance is answered as stored only when its row would survive a power cut, too.
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _upsert(connection: Connection, entry: InstanceEntry) -> None:
    key = entry.key
    source = {"source_series": key.series, "source_sop": key.sop}
    modality = "".join(entry.attributes[Level.SERIES].get(MODALITY, {}).get("Value", [])[:1])
    rows: list[tuple[Table, dict[str, Any], tuple[str, ...]]] = [
        (studies, {"study_uid": key.study, **source}, ("study_uid",)),
        (
            series,
            {"study_uid": key.study, "series_uid": key.series, "modality": modality, **source},
            ("study_uid", "series_uid"),
        ),
        (
            instances,
            {"study_uid": key.study, "series_uid": key.series, "sop_uid": key.sop},
            ("study_uid", "series_uid", "sop_uid"),
        ),
    ]
    for level, (table, values, unique) in zip(Level, rows, strict=True):
        _upsert_row(connection, table, values | _texts(entry.attributes[level]), unique)


def _texts(attributes: JsonDataset) -> dict[str, str]:
    keys = {tag: search_text(element) for tag, element in attributes.items()}
    return {
        "attributes": json.dumps(attributes, ensure_ascii=False, separators=(",", ":")),
        "keys": json.dumps(keys, ensure_ascii=False, separators=(",", ":")),
    }


def _upsert_row(
    connection: Connection, table: Table, values: dict[str, Any], unique: tuple[str, ...]
) -> None:
    statement = insert(table).values(**values)
    changed = {
        name: statement.excluded[name] for name in ("attributes", "keys", "modality") if name in values
    }
    is_source = (
        (table.c.source_series == statement.excluded.source_series)
        & (table.c.source_sop == statement.excluded.source_sop)
        if "source_sop" in values
        else None
    )
    connection.execute(statement.on_conflict_do_update(index_elements=unique, set_=changed, where=is_source))
