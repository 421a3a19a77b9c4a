"""Several importer processes on one inbox share out its clinics, and take over those of one that is gone."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from importer.inbox.advisory import AdvisoryLocks
from pacs.catalog import Catalog
from pacs.ids import ClinicId
from support.corpus import sample_uid
from support.importer_process import Process
from support.importing import NORTH, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Cluster
    from support.stow_server import Sent

CLINICS = [ClinicId(f"clinic-{number}") for number in range(12)]
FILES = 12


@pytest.fixture
def shared(tmp_path: Path, postgres_cluster: Cluster) -> Iterator[World]:
    """An inbox without clinics, a catalog on PostgreSQL, a good archive."""
    url = postgres_cluster.new_database()
    catalog = Catalog.open(SecretStr(url))
    made = World(tmp_path / "data", catalog, url)
    made.inbox.mkdir(parents=True)
    made.server.start()
    yield made
    made.server.stop()
    catalog.close()
    postgres_cluster.drop_database(url)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def served(process: Process) -> set[ClinicId]:
    """The clinics that are its own now, by what it says."""
    ours: set[ClinicId] = set()
    for line in process.output.splitlines():
        said = json.loads(line)
        if said["event"] == "a clinic is served":
            ours.add(ClinicId(said["clinic"]))
        elif said["event"] == "a clinic is served no longer":
            ours.discard(said["clinic"])
    return ours


def stored(process: Process) -> Counter[str]:
    """How many files it has stored and filed, by clinic."""
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(process.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "importer_files_total" and sample.labels["outcome"] == "stored":
                counted[sample.labels["clinic"]] += int(sample.value)
    return counted


def drop_a_study_for_each(world: World) -> dict[ClinicId, dict[str, bytes]]:
    return {
        clinic_id: {
            f"study/{number}.dcm": world.drop(
                f"study/{number}.dcm", clinic=clinic_id, seed=clinic_id, instance_number=number
            )
            for number in range(FILES)
        }
        for clinic_id in CLINICS
    }


def test_three_share_twelve_clinics_and_two_take_over_those_of_one_that_is_killed(
    shared: World, processes: list[Process]
) -> None:
    for clinic_id in CLINICS:
        shared.add_clinic(clinic_id)
    processes += [Process.start(shared, UPLOAD_WORKERS="1") for _ in range(3)]
    wait_until(lambda: [len(served(each)) for each in processes] == [4, 4, 4])
    *survivors, victim = processes
    orphans = served(victim)
    sent_by_victim: list[Sent] = []
    go_on = threading.Event()

    def hold_its_second(sent: Sent) -> None:
        if any(sent.uids[0] in instances(clinic_id) for clinic_id in orphans):
            sent_by_victim.append(sent)
            if len(sent_by_victim) > 1:
                go_on.wait(20)

    shared.server.rule = hold_its_second
    dropped = drop_a_study_for_each(shared)
    # One study is filed, one is at the archive, the others wait.
    wait_until(lambda: len(sent_by_victim) == 2 and sum(bool(shared.done(each)) for each in orphans) == 1)
    victim.kill()
    go_on.set()

    wait_until(lambda: set().union(*map(served, survivors)) == set(CLINICS))
    wait_until(lambda: not any(shared.waiting(clinic_id) for clinic_id in CLINICS))
    # All of each are there once, under their names, and nothing else is.
    assert {clinic_id: shared.done(clinic_id) for clinic_id in CLINICS} == dropped
    assert not any(shared.failures(clinic_id) for clinic_id in CLINICS)
    assert len(shared.server.stored) == len(CLINICS) * FILES
    for clinic_id in CLINICS:
        names = {shared.server.stored[uid].header.InstitutionName for uid in instances(clinic_id)}
        assert names == {clinic_id}
    wait_until(lambda: all(is_listed(shared, clinic_id) for clinic_id in CLINICS))
    wait_until(lambda: imported(shared) >= sum(map(stored, survivors), Counter()))
    assert max(imported(shared).values()) == FILES
    for clinic_id in set(CLINICS) - orphans:
        assert imported(shared)[clinic_id] == FILES
        assert {shared.server.times_stored[uid] for uid in instances(clinic_id)} == {1}


def is_listed(world: World, clinic_id: ClinicId) -> bool:
    row = world.study(sample_uid(clinic_id, "study"))
    if row is None or row["instance_count"] != FILES or row["marked"] != row["refreshed"]:
        return False
    assert (row["clinic_id"], row["state"]) == (clinic_id, "confirmed")
    return True


def imported(world: World) -> Counter[str]:
    """Files that the catalog's `imports` tell of; what a killed process had not written yet is missing."""
    counted: Counter[str] = Counter()
    for row in world.imports():
        assert (row["outcome"], row["study_uid"]) == ("stored", sample_uid(row["clinic_id"], "study"))
        counted[row["clinic_id"]] += row["files"]
    return counted


@cache
def instances(clinic_id: ClinicId) -> list[str]:
    series = sample_uid(clinic_id, "series", "CT")
    return [sample_uid(clinic_id, "instance", "CT", series, number) for number in range(FILES)]


def test_one_that_is_frozen_loses_its_clinics_and_does_no_harm_when_it_goes_on(
    shared: World, processes: list[Process]
) -> None:
    """As a machine does that was cut off or suspended: its connection is open at the server."""
    shared.add_clinic(NORTH)
    sent_first, go_on = threading.Event(), threading.Event()

    def hold_the_first(sent: Sent) -> None:
        if sent.number == 0:
            sent_first.set()
            go_on.wait(20)

    shared.server.rule = hold_the_first
    frozen = Process.start(shared, patch="__main__.LEASE_SECONDS = 1")
    processes.append(frozen)
    content = shared.drop("a.dcm")
    wait_until(sent_first.is_set)
    frozen.popen.send_signal(signal.SIGSTOP)
    with shared.running() as alive:
        wait_until(lambda: shared.done() == {"a.dcm": content})
        go_on.set()
        frozen.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: "locks are lost" in frozen.output)
        wait_until(lambda: set(shared.server.times_stored.values()) == {2})
        # It is there again, and has its share: of one clinic none, as long as the other lives.
        wait_until(lambda: frozen.get("/readyz").status_code == 200)
        assert alive.outcomes == {"stored": 1}
        assert stored(frozen)[NORTH] == 0
    wait_until(lambda: served(frozen) == {NORTH})
    shared.drop("b.dcm")
    wait_until(lambda: set(shared.done()) == {"a.dcm", "b.dcm"})
    assert shared.failures() == {}
    wait_until(lambda: sum(row["files"] for row in shared.imports()) == 2)


def test_one_that_lost_its_locks_neither_sends_nor_moves_a_file(shared: World) -> None:
    """The connection to the catalog ends while a request is under way, and another importer is faster."""
    shared.add_clinic(NORTH)
    go_on = threading.Event()
    shared.server.rule = lambda _sent: go_on.wait(20) and None
    dropped = {f"{n:02}.dcm": shared.drop(f"{n:02}.dcm", seed="a", instance_number=n) for n in range(25)}
    other_catalog = Catalog.open(SecretStr(shared.database_url))
    other = AdvisoryLocks(other_catalog)
    with shared.running(upload_workers=1, rescan_seconds=1):
        wait_until(lambda: shared.server.requests)
        (first,) = shared.server.requests
        with other_catalog.write() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        wait_until(lambda: other.hold([NORTH], lambda _clinic: True))
        go_on.set()
        # Of the study nothing is under way any more, neither what was sent nor what was in line behind it.
        wait_until(lambda: (shared.study(sample_uid("a", "study")) or {}).get("instance_count") == 20)
        assert shared.waiting() == dropped
        assert shared.server.requests == [first]
        other.close()
        wait_until(lambda: shared.done() == dropped)
    other_catalog.close()
    assert shared.failures() == {}
    assert len(shared.server.stored) == 25
