"""One importer a clinic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from importer.inbox.locks import AdvisoryLocks, InboxLock, InboxLockedError
from importer.inbox.look import InboxUnavailableError
from pacs.catalog import Catalog
from pacs.ids import ClinicId
from support.importing import NORTH, SOUTH, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Cluster

CLINICS = {ClinicId(f"clinic-{letter}") for letter in "abcd"}


def idle(_clinic: ClinicId) -> bool:
    return True


def busy(_clinic: ClinicId) -> bool:
    return False


def test_a_second_lock_on_an_inbox_is_refused_until_the_first_is_given_up(tmp_path: Path) -> None:
    first = InboxLock(tmp_path)
    with pytest.raises(InboxLockedError):
        InboxLock(tmp_path)
    assert first.hold(CLINICS, idle) == CLINICS
    first.close()
    InboxLock(tmp_path).close()


def test_an_inbox_that_was_exchanged_is_not_the_one_that_was_locked(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    lock = InboxLock(inbox)
    inbox.rename(tmp_path / "away")
    with pytest.raises(InboxUnavailableError):
        lock.hold(CLINICS, idle)
    inbox.mkdir()
    with pytest.raises(InboxUnavailableError):
        lock.hold(CLINICS, idle)
    lock.close()


def test_an_inbox_that_was_mounted_anew_as_another_device_is_known_by_its_lock_file(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    lock = InboxLock(inbox)
    inbox.rename(tmp_path / "away")
    inbox.mkdir()
    (inbox / ".importer.lock").touch()
    assert lock.hold(CLINICS, idle) == CLINICS
    with pytest.raises(InboxLockedError):
        InboxLock(inbox)
    lock.close()


def test_a_lock_file_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    lock = InboxLock(tmp_path)
    (tmp_path / ".importer.lock").unlink()
    assert lock.hold(CLINICS, idle) == CLINICS
    with pytest.raises(InboxLockedError):
        InboxLock(tmp_path)
    (tmp_path / ".importer.lock").unlink()
    other = InboxLock(tmp_path)
    with pytest.raises(InboxUnavailableError):
        lock.hold(CLINICS, idle)
    other.close()
    lock.close()


@pytest.fixture
def database_url(postgres_cluster: Cluster) -> Iterator[str]:
    url = postgres_cluster.new_database()
    yield url
    postgres_cluster.drop_database(url)


def test_importers_share_out_the_clinics(database_url: str) -> None:
    one, other = (Catalog.open(SecretStr(database_url)) for _ in range(2))
    first, second = AdvisoryLocks(one), AdvisoryLocks(other)
    assert first.hold(CLINICS, idle) == CLINICS
    assert second.hold(CLINICS, idle) == set()
    # The first gives up half, but only those of which it has no file in hand.
    assert len(first.hold(CLINICS, busy)) == 2
    assert second.hold(CLINICS, idle) == set()
    mine = first.hold(CLINICS, idle)
    theirs = second.hold(CLINICS, idle)
    assert len(mine) == len(theirs) == 2
    assert mine | theirs == CLINICS
    second.close()
    wait_until(lambda: first.hold(CLINICS, idle) == CLINICS)
    first.close()
    for catalog in (one, other):
        catalog.close()


def test_locks_end_with_their_connection(database_url: str, postgres_cluster: Cluster) -> None:
    one, other = (Catalog.open(SecretStr(database_url)) for _ in range(2))
    first = AdvisoryLocks(one)
    assert first.hold(CLINICS, idle) == CLINICS
    with other.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    second = AdvisoryLocks(other)
    assert wait_until(lambda: second.hold(CLINICS, idle)) == CLINICS
    second.close()
    first.close()
    for catalog in (one, other):
        catalog.close()


def test_two_importers_on_one_inbox_with_postgresql(tmp_path: Path, database_url: str) -> None:
    catalogs = [Catalog.open(SecretStr(database_url)) for _ in range(2)]
    worlds = [World(tmp_path / "data", catalog, database_url) for catalog in catalogs]
    worlds[1].server = worlds[0].server
    worlds[0].server.start()
    for clinic in (NORTH, SOUTH):
        worlds[0].add_clinic(clinic)
    with worlds[0].running() as one, worlds[1].running() as other:
        wait_until(lambda: one.full_looks > 3 and other.full_looks > 3)
        dropped = {}
        for number in range(20):
            for clinic in (NORTH, SOUTH):
                content = worlds[0].drop(f"{number}.dcm", clinic=clinic, seed=clinic, instance_number=number)
                dropped[clinic, f"{number}.dcm"] = content
        wait_until(lambda: len(worlds[0].done(NORTH)) == len(worlds[0].done(SOUTH)) == 20)
        wait_until(lambda: one.outcomes.get("stored") == 20 and other.outcomes.get("stored") == 20)
    assert worlds[0].server.overlaps == 0
    assert set(worlds[0].server.times_stored.values()) == {1}
    for clinic in (NORTH, SOUTH):
        assert {
            (clinic, name): content for name, content in worlds[0].done(clinic).items()
        }.items() <= dropped.items()
    worlds[0].server.stop()
    for catalog in catalogs:
        catalog.close()
