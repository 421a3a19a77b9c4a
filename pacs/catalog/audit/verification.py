"""Walking the chain from its anchor to its head, to see whether anybody changed what is on record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from pacs.catalog.audit.chain import START, Link, anchor, digest, pages
from pacs.catalog.audit.pruning import ACTION, describe
from pacs.catalog.schema import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from sqlalchemy import Connection

    Row = Mapping[str, Any]


class Fault(StrEnum):
    """What is wrong with the first row that does not fit."""

    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"
    PRUNED = "pruned without a record of it"


@dataclass(frozen=True)
class Broken:
    """The first fault: what became of the rows of these numbers."""

    fault: Fault
    first: int
    last: int


@dataclass(frozen=True)
class ChainVerdict:
    """What a walk found.

    Attributes:
        rows: that are as they were written.
        head: the last of them.
        anchor: what the first of them is chained to.
        broken: the fault at which the walk ended.
        lost: heads that were asked for and are not in the chain, as far as the walk came.
        left_over: rows that were pruned and are still there.
    """

    rows: int
    head: Link
    anchor: Link
    broken: Broken | None
    lost: frozenset[str]
    left_over: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is amiss."""
        return self.broken is None and not self.lost


def verify(
    connection: Connection, heads: Collection[str] = (), advance: Callable[[int], object] = lambda _rows: None
) -> ChainVerdict:
    """Walk the chain.

    Args:
        connection: of one consistent view, or a pruning meanwhile looks like a loss.
        heads: hashes that were noted earlier and must be part of the chain: cutting off its end leaves a
            chain that is whole.
        advance: told of every page of rows.
    """
    begin = anchor(connection)
    before = connection.scalar(select(func.count()).where(audit.c.id <= begin.id)) or 0
    walk = _Walk(begin, set(heads))
    try:
        walk.go(_rows(connection, begin.id, advance))
    except ValueError:
        walk.broken = walk.broken or Broken(Fault.CHANGED, walk.last.id + 1, walk.last.id + 1)
    broken = walk.broken
    if begin == START and before:
        broken = Broken(Fault.ADDED, *_ends(connection))
    elif broken is None and not walk.anchor_told:
        broken = Broken(Fault.PRUNED, 1, begin.id)
    return ChainVerdict(walk.rows, walk.last, begin, broken, frozenset(walk.heads), before)


def _ends(connection: Connection) -> tuple[int, int]:
    row = connection.execute(select(func.min(audit.c.id), func.max(audit.c.id)).where(audit.c.id <= 0)).one()
    return int(row[0]), int(row[1])


def _rows(connection: Connection, after: int, advance: Callable[[int], object]) -> Iterator[Row]:
    try:
        for page in pages(connection, after=after):
            yield from page
            advance(len(page))
            after = page[-1]["id"]
    except ValueError:
        # SQLite takes any value: what is no time fails its whole page. Alone it fails behind the others.
        for page in pages(connection, after=after, size=1):
            yield from page


class _Walk:
    def __init__(self, begin: Link, heads: set[str]) -> None:
        self.rows, self.last, self.heads = 0, begin, heads - {begin.hash}
        self.broken: Broken | None = None
        # Whoever removes the oldest rows can write an anchor, too, but not the row that tells of it.
        self.anchor_told = begin == START
        self._anchor = describe(begin)

    def go(self, rows: Iterator[Row]) -> None:
        for row in rows:
            if row["hash"] != digest(self.last.hash, row):
                self.broken = self._fault(row, next(rows, None))
                break
            self.rows, self.last = self.rows + 1, Link(row["id"], row["hash"])
            self.heads.discard(row["hash"])
            if row["action"] == ACTION and row["detail"] == self._anchor:
                self.anchor_told = True

    def _fault(self, row: Row, following: Row | None) -> Broken:
        """What happened, as the row behind tells: it is chained to what was before it when it was written."""
        number = row["id"]
        if following and following["hash"] == digest(self.last.hash, following):
            return Broken(Fault.ADDED, number, number)
        if following and following["hash"] == digest(row["hash"], following) and number == self.last.id + 1:
            return Broken(Fault.CHANGED, number, number)
        if number > self.last.id + 1:
            return Broken(Fault.MISSING, self.last.id + 1, number - 1)
        return Broken(Fault.CHANGED, number, number)
