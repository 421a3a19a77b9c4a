"""Queries put to the index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, Table, and_, func, literal_column, select

from demo.archive.attributes import (
    DEFAULTS,
    INDEXED,
    MODALITIES_IN_STUDY,
    SERIES_INSTANCES,
    STUDY_INSTANCES,
    STUDY_SERIES,
    Level,
    levels_through,
    value_representation,
)
from demo.archive.index import InstanceKey, instances, series, studies
from demo.archive.query import AnyOf, Between, Match, Query
from pacs.ids import Uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Engine, Row

    from demo.archive.json_model import JsonDataset

_TABLES: dict[Level, Table] = {Level.STUDY: studies, Level.SERIES: series, Level.INSTANCE: instances}


class Found:
    """A study, series or instance that a query found.

    ``source`` is an instance that speaks for it.
    """

    def __init__(self, query: Query, row: Row[Any]) -> None:
        self._indexed: JsonDataset = {}
        levels = levels_through(query.level)
        for level in levels:
            self._indexed |= json.loads(getattr(row, f"{level.name}_attributes"))
        self.source = InstanceKey(Uid(row.study_uid), Uid(row.source_series), Uid(row.source_sop))
        wanted = {tag for level in levels for tag in DEFAULTS[level]} | query.include
        if query.include_all:
            wanted |= {tag for level in levels for tag in INDEXED[level]}
        self._counted = _counted(row)
        self.missing = wanted - self._indexed.keys() - self._counted.keys() - _indexed_tags(query.level)
        self._wanted = wanted

    def dataset(self) -> JsonDataset:
        """The answer, attributes asked for but not known empty; without the URL."""
        known = self._indexed | self._counted
        tags = sorted(self._wanted | self._counted.keys())
        return {tag: known.get(tag) or {"vr": value_representation(tag)} for tag in tags}


def _indexed_tags(level: Level) -> set[str]:
    return {tag for each in levels_through(level) for tag in INDEXED[each]}


def _counted(row: Row[Any]) -> JsonDataset:
    counted: JsonDataset = {
        STUDY_SERIES: {"vr": "IS", "Value": [row.study_series]},
        STUDY_INSTANCES: {"vr": "IS", "Value": [row.study_instances]},
        MODALITIES_IN_STUDY: {"vr": "CS", "Value": sorted(filter(None, (row.modalities or "").split(",")))},
    }
    if hasattr(row, "series_instances"):
        counted[SERIES_INSTANCES] = {"vr": "IS", "Value": [row.series_instances]}
    return counted


def search(engine: Engine, query: Query) -> Iterator[Found]:
    """All that a query matches, in the order it was first stored."""
    with engine.connect() as connection:
        for row in connection.execute(_statement(query)):
            yield Found(query, row)


def _statement(query: Query) -> Select[Any]:
    table = _TABLES[query.level]
    statement = _select(query.level)
    if query.study is not None:
        statement = statement.where(table.c.study_uid == query.study)
    if query.series is not None:
        statement = statement.where(table.c.series_uid == query.series)
    for tag, match in query.matches:
        statement = statement.where(_condition(query.level, tag, match))
    statement = statement.order_by(table.c.id).offset(query.offset)
    return statement if query.limit is None else statement.limit(query.limit)


def _select(level: Level) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [
        studies.c.study_uid,
        studies.c.attributes.label("STUDY_attributes"),
        *_study_counts(),
    ]
    source: Any = studies
    if level >= Level.SERIES:
        columns += [series.c.attributes.label("SERIES_attributes"), _series_count()]
        source = source.join(series, series.c.study_uid == studies.c.study_uid)
    if level == Level.INSTANCE:
        columns += [
            instances.c.attributes.label("INSTANCE_attributes"),
            instances.c.series_uid.label("source_series"),
            instances.c.sop_uid.label("source_sop"),
        ]
        same_series = and_(
            instances.c.study_uid == series.c.study_uid, instances.c.series_uid == series.c.series_uid
        )
        source = source.join(instances, same_series)
    else:
        columns += [_TABLES[level].c.source_series, _TABLES[level].c.source_sop]
    return select(*columns).select_from(source)


def _study_counts() -> list[ColumnElement[Any]]:
    siblings = series.alias()
    members = instances.alias()
    of_study = siblings.c.study_uid == studies.c.study_uid
    return [
        select(func.count()).select_from(siblings).where(of_study).scalar_subquery().label("study_series"),
        select(func.group_concat(siblings.c.modality.distinct()))
        .where(of_study)
        .scalar_subquery()
        .label("modalities"),
        select(func.count())
        .select_from(members)
        .where(members.c.study_uid == studies.c.study_uid)
        .scalar_subquery()
        .label("study_instances"),
    ]


def _series_count() -> ColumnElement[Any]:
    members = instances.alias()
    return (
        select(func.count())
        .select_from(members)
        .where(members.c.study_uid == series.c.study_uid, members.c.series_uid == series.c.series_uid)
        .scalar_subquery()
        .label("series_instances")
    )


def _condition(level: Level, tag: str, match: Match) -> ColumnElement[bool]:
    if tag == MODALITIES_IN_STUDY:
        siblings = series.alias()
        modality = func.lower(siblings.c.modality)
        return (
            select(literal_column("1"))
            .where(siblings.c.study_uid == studies.c.study_uid, _compare(modality, match))
            .exists()
        )
    table = _TABLES[next(each for each in levels_through(level) if tag in INDEXED[each])]
    if (uid_column := _UID_COLUMNS.get(tag)) is not None:
        return _compare(table.c[uid_column], match)
    return _compare(func.coalesce(func.json_extract(table.c["keys"], f'$."{tag}"'), ""), match)


_UID_COLUMNS = {"0020000D": "study_uid", "0020000E": "series_uid", "00080018": "sop_uid"}


def _compare(column: ColumnElement[Any], match: Match) -> ColumnElement[bool]:
    if isinstance(match, AnyOf):
        return column.in_(match.values)
    if isinstance(match, Between):
        # "1030" as an upper bound means until the end of that minute.
        upper = None if match.high is None else column <= match.high + "~"
        lower = None if match.low is None else column >= match.low
        return and_(column != "", *(bound for bound in (lower, upper) if bound is not None))
    return column.like(_like_pattern(match.pattern), escape="/")


def _like_pattern(pattern: str) -> str:
    for special in "/%_":
        pattern = pattern.replace(special, f"/{special}")
    return pattern.replace("*", "%").replace("?", "_")
