"""The audit trail is a chain that only grows: whatever else is done to it is refused, or found."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import exc as sa_exc
from sqlalchemy import insert, text

from pacs.catalog import Catalog, audit
from pacs.catalog.audit import pruning, verification
from pacs.catalog.audit.verification import Broken, Fault
from pacs.catalog.schema import audit as table
from pacs.ids import ClinicId, Uid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog.audit.verification import ChainVerdict

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EVENT = audit.AuditEvent(
    "study-opened",
    "subject-of-nora",
    "nora",
    ClinicId("northside"),
    Uid("1.2.3"),
    "192.0.2.1",
    detail="é\u2028",
)


def write(catalog: Catalog, count: int, at: datetime = NOW) -> None:
    with catalog.write() as connection:
        audit.extend(connection, [EVENT] * (count - 1), at)
    with catalog.write() as connection:
        audit.append(connection, audit.AuditEvent("reindex", "os:ada", allowed=False, count=7), at)


def verify(catalog: Catalog, *heads: str) -> ChainVerdict:
    with catalog.snapshot() as connection:
        return verification.verify(connection, heads)


def rows(catalog: Catalog) -> list[dict[str, Any]]:
    with catalog.read() as connection:
        return [dict(row) for page in audit.pages(connection) for row in page]


def unguard(catalog: Catalog) -> None:
    """As somebody who owns the database."""
    with catalog.write() as connection:
        if catalog.is_sqlite:
            names = connection.scalars(
                text("SELECT name FROM sqlite_master WHERE type='trigger' AND name LIKE 'audit%'")
            )
            for name in names.all():
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
            connection.execute(text("ALTER TABLE audit_anchors DISABLE TRIGGER USER"))


def tamper(catalog: Catalog, *statements: str) -> None:
    unguard(catalog)
    with catalog.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def ten(catalog: Catalog) -> Catalog:
    write(catalog, 10)
    return catalog


def test_an_untouched_trail_is_whole(ten: Catalog) -> None:
    found = verify(ten)
    assert found.is_whole
    assert (found.rows, found.head.id, found.anchor) == (10, 10, audit.START)
    with ten.read() as connection:
        assert found.head == audit.head(connection)


def test_an_empty_trail_is_whole(sqlite_catalog: Catalog) -> None:
    assert verify(sqlite_catalog).is_whole
    assert verify(sqlite_catalog).head == audit.START


def test_anyone_can_compute_a_hash_from_what_the_row_says(ten: Catalog) -> None:
    previous = "0" * 64
    for row in rows(ten):
        said = {key: value for key, value in row.items() if key != "hash"}
        said["at"] = "2026-01-02T03:04:05.678901+00:00"
        told = json.dumps(said, sort_keys=True, separators=(",", ":"))
        previous = hashlib.sha256((previous + told).encode()).hexdigest()
        assert row["hash"] == previous


CHANGES = (
    "at = '2026-01-02 03:04:05.678902'",
    "action = 'x'",
    "allowed = false",
    "subject = 'x'",
    "username = 'rita'",
    "clinic_id = NULL",
    "study_uid = '1.2.4'",
    "source = ''",
    "detail = ''",
    "count = 2",
    f"hash = '{'0' * 64}'",
)


def broken_by(catalog: Catalog, *statements: str) -> Broken | None:
    """What is found after these, which are undone then."""
    with catalog._engine.execution_options(writes=True).connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        return verification.verify(connection).broken


def test_a_change_of_any_column_is_found(ten: Catalog) -> None:
    assert len(CHANGES) == len(table.columns) - 1
    unguard(ten)
    for change in CHANGES:
        told = change if ten.is_sqlite else change.replace(".678902", ".678902+00:00")
        assert broken_by(ten, f"UPDATE audit SET {told} WHERE id = 4") == Broken(Fault.CHANGED, 4, 4)
    tamper(ten, "UPDATE audit SET count = 2 WHERE id = 4")
    found = verify(ten)
    assert (found.is_whole, found.rows, found.head.id) == (False, 3, 3)


def test_a_value_that_cannot_be_read_is_a_change(sqlite_catalog: Catalog) -> None:
    write(sqlite_catalog, 10)
    tamper(sqlite_catalog, "UPDATE audit SET at = 'never' WHERE id = 4")
    found = verify(sqlite_catalog)
    assert (found.broken, found.rows) == (Broken(Fault.CHANGED, 4, 4), 3)


MADE_UP = "INSERT INTO audit (id, at, action, allowed, subject, hash) SELECT {}, at, 'x', allowed, subject, "
REMOVED_ADDED_AND_MOVED = {
    "removed": (["DELETE FROM audit WHERE id = 4"], Broken(Fault.MISSING, 4, 4)),
    "three removed": (["DELETE FROM audit WHERE id IN (4, 5, 6)"], Broken(Fault.MISSING, 4, 6)),
    "the first removed": (["DELETE FROM audit WHERE id <= 3"], Broken(Fault.MISSING, 1, 3)),
    "two change places": (
        [f"UPDATE audit SET id = {new} WHERE id = {old}" for old, new in ((4, 99), (5, 4), (99, 5))],
        Broken(Fault.CHANGED, 4, 4),
    ),
    "put between, and all that follow move on": (
        [
            "UPDATE audit SET id = -id WHERE id >= 4",
            "UPDATE audit SET id = 1 - id WHERE id < 0",
            f"{MADE_UP.format(4)} hash FROM audit WHERE id = 3",
        ],
        Broken(Fault.CHANGED, 4, 4),
    ),
    "put at the end": (
        [f"{MADE_UP.format(11)} hash FROM audit WHERE id = 10"],
        Broken(Fault.CHANGED, 11, 11),
    ),
    "put before": ([f"{MADE_UP.format(0)} hash FROM audit WHERE id = 10"], Broken(Fault.ADDED, 0, 0)),
}


def test_rows_removed_added_and_moved_are_found(ten: Catalog) -> None:
    unguard(ten)
    expected = {name: broken for name, (_, broken) in REMOVED_ADDED_AND_MOVED.items()}
    found = {name: broken_by(ten, *done) for name, (done, _) in REMOVED_ADDED_AND_MOVED.items()}
    assert found == expected
    assert verify(ten).is_whole


def test_a_row_put_into_a_gap_of_former_times_is_found(catalog: Catalog) -> None:
    unguard(catalog)
    with catalog.write() as connection:
        last = audit.START.hash
        for number in (1, 3, 4):
            row = {"id": number, "at": NOW, **vars(EVENT)}
            last = audit.digest(last, row)
            connection.execute(insert(table).values(**row, hash=last))
    assert verify(catalog).is_whole
    tamper(catalog, f"{MADE_UP.format(2)} '' FROM audit WHERE id = 1")
    assert verify(catalog).broken == Broken(Fault.ADDED, 2, 2)


def test_a_tail_that_is_cut_off_is_found_by_a_head_that_was_noted(ten: Catalog) -> None:
    noted = rows(ten)[8]["hash"]
    assert verify(ten, noted).is_whole
    tamper(ten, "DELETE FROM audit WHERE id >= 9")
    assert verify(ten).is_whole
    write(ten, 5, NOW + timedelta(hours=1))
    found = verify(ten, noted)
    assert (found.broken, found.lost, found.is_whole) == (None, {noted}, False)


def test_of_a_head_behind_a_fault_nothing_is_known(ten: Catalog) -> None:
    heads = [row["hash"] for row in rows(ten)]
    tamper(ten, "UPDATE audit SET detail = '' WHERE id = 4")
    assert verify(ten, heads[2], heads[8]).lost == {heads[8]}


def test_appends_at_once_keep_the_chain(catalog: Catalog, database_url: str) -> None:
    with closing(Catalog.open(SecretStr(database_url))) as other:
        start = threading.Barrier(6)

        def work(own: Catalog) -> None:
            start.wait(10)
            for _ in range(15):
                with own.write() as connection:
                    audit.append(connection, EVENT, NOW)

        threads = [threading.Thread(target=work, args=(own,)) for own in (catalog, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    found = verify(catalog)
    assert (found.is_whole, found.rows, found.head.id) == (True, 90, 90)


def test_a_row_that_was_rolled_back_leaves_no_gap(ten: Catalog) -> None:
    with suppress(ZeroDivisionError), ten.write() as connection:
        audit.append(connection, EVENT, NOW)
        _ = 1 / 0
    write(ten, 2)
    assert [row["id"] for row in rows(ten)] == list(range(1, 13))
    assert verify(ten).is_whole


COPY = (
    "INTO audit (id, at, action, allowed, subject) SELECT {}, at, 'x', true, subject FROM audit WHERE id = 1"
)
ANCHOR = "INTO audit_anchors (id, hash, pruned_at) SELECT {}, at FROM audit WHERE id = {}"
REFUSED = (
    "UPDATE audit SET detail = '' WHERE id = 1",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id = 10",
    f"INSERT {COPY.format(5)}",
    f"INSERT {COPY.format(0)}",
    "UPDATE audit_anchors SET id = 0",
    "DELETE FROM audit_anchors",
    # Of another row's hash, of no row, before the last anchor, the same again, younger than a day
    f"INSERT {ANCHOR.format('4, hash', 5)}",
    f"INSERT {ANCHOR.format('12, hash', 10)}",
    f"INSERT {ANCHOR.format('1, hash', 1)}",
    f"INSERT {ANCHOR.format('2, hash', 2)}",
    f"INSERT {ANCHOR.format('11, hash', 11)}",
)
# SQLite's REPLACE deletes without a trigger that says so.
REFUSED_ON_SQLITE = (
    f"INSERT OR REPLACE {COPY.format(5)}",
    f"INSERT OR REPLACE {ANCHOR.format('2, hash', 2)}",
)
REFUSED_ON_POSTGRESQL = ("TRUNCATE audit", "TRUNCATE audit_anchors")


def test_the_database_refuses_all_but_adding_at_the_end(ten: Catalog) -> None:
    pruning.put_anchor(ten, audit.Link(2, rows(ten)[1]["hash"]), NOW)
    write(ten, 2, datetime.now(UTC))
    before = rows(ten)
    for statement in (*REFUSED, *(REFUSED_ON_SQLITE if ten.is_sqlite else REFUSED_ON_POSTGRESQL)):
        refused = pytest.raises(sa_exc.DBAPIError, match="the audit trail is append-only")
        with refused, ten.write() as connection:
            connection.execute(text(statement))
    assert rows(ten) == before


def prune(catalog: Catalog, before: datetime, *, recorded: bool = True) -> int:
    with catalog.read() as connection:
        found = pruning.prunable(connection, before)
    if found is None:
        return 0
    to, _ = found
    if recorded:
        with catalog.write() as connection:
            audit.append(
                connection, audit.AuditEvent(pruning.ACTION, "os:ada", detail=pruning.describe(to)), NOW
            )
    pruning.put_anchor(catalog, to, NOW)
    return pruning.remove_covered(catalog)


def test_what_is_pruned_leaves_a_chain_that_is_whole(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_CHUNK", 3)
    for age in (400, 300, 200):
        write(catalog, 4, NOW - timedelta(days=age))
    noted = rows(catalog)[5]["hash"]
    assert prune(catalog, NOW - timedelta(days=350)) == 4
    found = verify(catalog, noted)
    assert (found.is_whole, found.anchor.id, found.rows, found.left_over) == (True, 4, 9, 0)
    assert prune(catalog, NOW - timedelta(days=350)) == 0
    assert prune(catalog, NOW - timedelta(days=100)) == 8
    assert [row["id"] for row in rows(catalog)] == [13, 14]
    found = verify(catalog)
    assert (found.is_whole, found.anchor.id) == (True, 12)
    assert verify(catalog, noted).lost == {noted}


def test_pruning_ends_before_the_first_row_that_is_kept(catalog: Catalog) -> None:
    # A clock that was wrong for a while.
    for age in (400, 10, 400):
        write(catalog, 2, NOW - timedelta(days=age))
    assert prune(catalog, NOW - timedelta(days=30)) == 2
    assert verify(catalog).is_whole


def test_a_pruning_that_was_interrupted_is_ended_by_the_next(catalog: Catalog) -> None:
    write(catalog, 6, NOW - timedelta(days=400))
    to = audit.Link(4, rows(catalog)[3]["hash"])
    with catalog.write() as connection:
        audit.append(connection, audit.AuditEvent(pruning.ACTION, "os:ada", detail=pruning.describe(to)), NOW)
    pruning.put_anchor(catalog, to, NOW)
    found = verify(catalog)
    assert (found.is_whole, found.left_over, found.rows) == (True, 4, 3)
    assert pruning.remove_covered(catalog) == 4
    assert verify(catalog).left_over == 0


def test_an_anchor_that_no_row_tells_of_is_found(catalog: Catalog) -> None:
    write(catalog, 6, NOW - timedelta(days=400))
    write(catalog, 2)
    prune(catalog, NOW - timedelta(days=30), recorded=False)
    assert verify(catalog).broken == Broken(Fault.PRUNED, 1, 6)


@pytest.fixture
def of_version_three(old_catalog: Callable[[str], Catalog]) -> Catalog:
    """With rows of a trail that is no chain yet; on PostgreSQL a row that was rolled back left a gap."""
    catalog = old_catalog("0003")
    row = (
        "INSERT INTO audit (id, at, action, allowed, subject, detail) VALUES (:id, :at, 'x', true, 'n', 'é')"
    )
    at = "2026-01-02 03:04:05.000006" + ("" if catalog.is_sqlite else "+00:00")
    with catalog.write() as connection:
        connection.execute(text(row), [{"id": number, "at": at} for number in (1, 2, 4, *range(5, 2505))])
    return catalog


def test_a_migration_chains_the_rows_that_are_there(of_version_three: Catalog) -> None:
    of_version_three.migrate()
    of_version_three.check_version()
    found = verify(of_version_three)
    assert (found.is_whole, found.rows, found.head.id) == (True, 2503, 2504)
    write(of_version_three, 2)
    assert verify(of_version_three).head.id == 2506
    tamper(of_version_three, "UPDATE audit SET subject = 'rita' WHERE id = 2")
    assert verify(of_version_three).broken == Broken(Fault.CHANGED, 2, 2)
