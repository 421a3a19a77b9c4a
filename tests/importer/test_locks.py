"""One importer a clinic."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from importer.inbox.advisory import AdvisoryLocks
from importer.inbox.locks import InboxLock, InboxLockedError
from importer.inbox.look import InboxUnavailableError
from pacs.catalog import Catalog, CatalogUnavailableError
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


@pytest.fixture
def catalogs(database_url: str) -> Iterator[list[Catalog]]:
    opened = [Catalog.open(SecretStr(database_url)) for _ in range(3)]
    yield opened
    for catalog in opened:
        catalog.close()


@pytest.fixture
def several(catalogs: list[Catalog]) -> Iterator[list[AdvisoryLocks]]:
    made = [AdvisoryLocks(catalog) for catalog in catalogs]
    yield made
    for locks in made:
        locks.close()


def end_sessions(catalog: Catalog) -> None:
    """As a restart of the server does."""
    with catalog.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_importers_share_out_the_clinics(several: list[AdvisoryLocks]) -> None:
    first, second, _ = several
    assert first.hold(CLINICS, idle) == CLINICS
    assert second.hold(CLINICS, idle) == set()
    # The first gives up half, but only those of which it has no file in hand.
    assert len(first.hold(CLINICS, busy)) == 2
    assert second.hold(CLINICS, idle) == set()
    first.hold(CLINICS, busy)
    assert second.hold(CLINICS, idle) == set()
    mine = first.hold(CLINICS, idle)
    theirs = second.hold(CLINICS, idle)
    assert len(mine) == len(theirs) == 2
    assert mine | theirs == CLINICS
    second.close()
    wait_until(lambda: first.hold(CLINICS, idle) == CLINICS)


def test_a_clinic_is_not_given_up_at_once(several: list[AdvisoryLocks]) -> None:
    """A file of it may be on its way to those who count what is in hand."""
    first, second, _ = several
    assert first.hold(CLINICS, idle) == CLINICS
    second.hold(CLINICS, idle)
    leaving = CLINICS - first.hold(CLINICS, idle)
    assert all(first.is_ours(clinic_id) for clinic_id in leaving)
    assert second.hold(CLINICS, idle) == set()
    first.hold(CLINICS, idle)
    assert not any(first.is_ours(clinic_id) for clinic_id in leaving)
    assert second.hold(CLINICS, idle) == leaving


def test_shares_differ_by_one_at_most(several: list[AdvisoryLocks]) -> None:
    def shares() -> list[set[ClinicId]]:
        return [locks.hold(CLINICS, idle) for locks in several]

    wait_until(lambda: sorted(map(len, shares())) == [1, 1, 2])
    assert set().union(*shares()) == CLINICS


def test_busy_clinics_are_shared_out_like_the_others(several: list[AdvisoryLocks]) -> None:
    first, second, _ = several
    work = {ClinicId("clinic-a"), ClinicId("clinic-b")}
    first.hold(CLINICS, idle)
    second.hold(CLINICS, idle)
    staying = first.hold(CLINICS, lambda clinic_id: clinic_id not in work)
    assert len(staying) == 2
    assert len(staying & work) == 1


def test_an_importer_that_comes_back_to_its_share_takes_again_what_it_was_to_give(
    several: list[AdvisoryLocks],
) -> None:
    first, second, _ = several
    first.hold(CLINICS, idle)
    second.hold(CLINICS, idle)
    assert len(first.hold(CLINICS, busy)) == 2
    second.close()
    assert wait_until(lambda: len(first.hold(CLINICS, busy)) == 4)


def test_locks_end_with_their_session_and_their_holder_knows_at_once(
    several: list[AdvisoryLocks], catalogs: list[Catalog]
) -> None:
    first, second, _ = several
    assert first.hold(CLINICS, idle) == CLINICS
    assert all(first.is_ours(clinic_id) for clinic_id in CLINICS)
    end_sessions(catalogs[1])
    wait_until(lambda: second.hold(CLINICS, idle) == CLINICS)
    # Nothing was asked in between: the closed connection is enough.
    assert not any(first.is_ours(clinic_id) for clinic_id in CLINICS)
    with pytest.raises(CatalogUnavailableError):
        first.hold(CLINICS, idle)
    assert first.hold(CLINICS, idle) == set()


def test_an_importer_that_is_not_heard_of_loses_its_clinics(catalogs: list[Catalog]) -> None:
    """A machine that froze, or was cut off, with its connection open at the server."""
    frozen, alive = (AdvisoryLocks(catalog, lease_seconds=1) for catalog in catalogs[:2])
    assert frozen.hold(CLINICS, idle) == CLINICS
    wait_until(lambda: alive.hold(CLINICS, idle) == CLINICS)
    assert not any(frozen.is_ours(clinic_id) for clinic_id in CLINICS)
    for locks in (frozen, alive):
        locks.close()


@pytest.mark.long
def test_an_importer_that_is_heard_of_keeps_its_clinics(
    catalogs: list[Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importer.inbox.advisory._RENEW_SECONDS", 0)
    # Longer than any machine stands still between two renewals.
    locks = AdvisoryLocks(catalogs[0], lease_seconds=1.5)
    locks.hold(CLINICS, idle)
    began = time.monotonic()

    def has_renewed_for_long() -> bool:
        locks.renew()
        return time.monotonic() - began > 2

    wait_until(has_renewed_for_long)
    assert all(locks.is_ours(clinic_id) for clinic_id in CLINICS)
    locks.close()


def test_a_machine_whose_inbox_is_gone_leaves_the_clinics_to_others(
    tmp_path: Path, catalogs: list[Catalog]
) -> None:
    inboxes = [tmp_path / name for name in ("one", "other")]
    for inbox in inboxes:
        for clinic_id in CLINICS:
            (inbox / clinic_id).mkdir(parents=True)
    one, other = (AdvisoryLocks(*each) for each in zip(catalogs, inboxes, strict=False))
    assert one.hold(CLINICS, idle) == CLINICS
    inboxes[0].rename(tmp_path / "away")
    inboxes[0].mkdir()
    with pytest.raises(InboxUnavailableError):
        one.hold(CLINICS, idle)
    wait_until(lambda: other.hold(CLINICS, idle) == CLINICS)
    inboxes[0].rmdir()
    (tmp_path / "away").rename(inboxes[0])
    one.hold(CLINICS, idle)
    wait_until(lambda: len(other.hold(CLINICS, idle)) == len(one.hold(CLINICS, idle)) == 2)
    for locks in (one, other):
        locks.close()


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
