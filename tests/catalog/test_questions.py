"""Questions: one statement, compiled once, asked over and over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import Date, String, bindparam, exists, func, literal_column, select, text

from pacs.catalog import Catalog, CatalogUnavailableError, clinics
from pacs.catalog.schema import clinics as table
from pacs.catalog.schema import study_access
from pacs.ids import ClinicId
from support.importing import wait_until

if TYPE_CHECKING:
    from pacs.catalog.questions import PreparedQuery
    from support.postgres import Cluster

NOW = datetime(2026, 3, 4, 12, 30, 15, 250_000, tzinfo=UTC)
NORTH = ClinicId("northside")
ASKED = {"clinic": NORTH, "today": date(2026, 3, 4)}


def about_a_clinic(catalog: Catalog) -> PreparedQuery:
    shared = exists().where(study_access.c.until >= bindparam("today", type_=Date))
    wanted = table.c.id == bindparam("clinic", type_=String)
    return catalog.prepare(select(table.c.active, table.c.created_at, shared.label("shared")).where(wanted))


def test_the_answer_is_of_now_and_its_values_are_pythons(catalog: Catalog) -> None:
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", NOW)
    question = about_a_clinic(catalog)
    assert catalog.ask(question, ASKED) == (True, NOW, False)
    with catalog.write() as connection:
        clinics.deactivate(connection, NORTH)
    answer = catalog.ask(question, ASKED)
    assert (answer.active, answer.created_at, answer.shared) == (False, NOW, False)


def test_a_connection_that_the_server_has_cut_is_replaced(postgres_cluster: Cluster) -> None:
    url = postgres_cluster.new_database()
    catalog = Catalog.open(SecretStr(url))
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", NOW)
    question = about_a_clinic(catalog)
    assert catalog.ask(question, ASKED).active
    with catalog.read() as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        assert connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        )
    assert catalog.ask(question, ASKED).active
    catalog.close()
    postgres_cluster.drop_database(url)
    with pytest.raises(CatalogUnavailableError):
        catalog.ask(question, ASKED)


def test_no_more_connections_are_kept_than_one_burst_needs(
    postgres_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's are few, and shared with Keycloak, the archive and the importer."""
    monkeypatch.setattr("pacs.catalog.questions._IDLE_MAX", 2)
    url = postgres_cluster.new_database()
    catalog = Catalog.open(SecretStr(url))
    slow = catalog.prepare(select(func.pg_sleep(literal_column("0.2")).label("slept")))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _number: catalog.ask(slow, {}), range(8)))
    kept = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'idle'")

    def count() -> int:
        with catalog.read() as connection:
            return int(connection.scalar(kept) or 0)

    # The server ends a session a moment after the client has closed it.
    wait_until(lambda: count() <= 2)
    assert count() == 2
    catalog.close()
    postgres_cluster.drop_database(url)
