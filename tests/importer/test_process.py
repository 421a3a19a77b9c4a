"""The importer as a process: settings, locks, signals, `--once`."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pacs.catalog.schema import audit
from support.corpus import instance_bytes, sample_uid
from support.importer_process import Process, run
from support.importing import NORTH, wait_until
from support.stow_server import Answers, Fault, Hangs, Sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.importing import World


@pytest.fixture
def process(world: World) -> Iterator[Process]:
    started = Process.start(world)
    yield started
    started.kill()


def one_sentence(output: str) -> str:
    lines = output.strip().splitlines()
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]


def test_the_help_teaches(world: World) -> None:
    code, said = run(world, "--help")
    assert code == 0
    for word in ("--once", "COOLDOWN_SECONDS", "examples", "/metrics", "error.json"):
        assert word in said


def test_all_faults_of_the_settings_are_told_at_once(world: World) -> None:
    code, said = run(world, COOLDOWN_SECONDS="soon", UPLOAD_WORKERS="0", ARCHIVE_URL="localhost:8042")
    assert code == 2
    for name in ("COOLDOWN_SECONDS", "UPLOAD_WORKERS", "ARCHIVE_URL"):
        assert f"{name}: " in said
    assert "Traceback" not in said


def test_a_second_importer_on_the_inbox_is_refused_until_the_first_died(
    world: World, process: Process
) -> None:
    process.wait_started()
    code, said = run(world)
    assert code == 2
    assert "another importer" in one_sentence(said)
    process.kill()
    world.drop("a.dcm")
    assert run(world, "--once")[0] == 0
    assert set(world.done()) == {"a.dcm"}


def test_a_port_in_use_is_one_sentence(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = run(world, IMPORTER_PORT=str(taken.getsockname()[1]))
    assert code == 2
    assert "IMPORTER_PORT" in one_sentence(said)


def test_an_inbox_that_cannot_be_made_is_one_sentence(world: World) -> None:
    blocked = world.data.parent / "a file"
    blocked.write_bytes(b"")
    code, said = run(world, INBOX_PATH=str(blocked / "inbox"))
    assert code == 2
    assert "the inbox" in one_sentence(said)


def test_a_catalog_that_is_none_is_one_sentence(world: World) -> None:
    with world.catalog.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'newer'")
    for url in ("mysql://localhost/pacs", "sqlite:////proc/no/catalog.db", world.database_url):
        code, said = run(world, DATABASE_URL=url)
        assert code == 2
        one_sentence(said)


def test_metrics_and_health_are_served(world: World, process: Process) -> None:
    world.drop("a.dcm")
    stored = 'importer_files_total{clinic="northside",outcome="stored"} 1.0'
    # It is counted after it is filed.
    text = wait_until(lambda: stored in (found := process.get("/metrics").text) and found)
    assert set(world.done()) == {"a.dcm"}
    assert 'importer_files_total{clinic="southside",outcome="failed"} 0.0' in text
    assert "importer_archive_up 1.0" in text
    assert process.get("/healthz").status_code == 200
    assert process.get("/readyz").json() == {"archive": True, "catalog": True, "inbox": True}
    assert process.get("/else").status_code == 404
    world.server.rule = lambda _sent: Answers(503)
    world.drop("b.dcm")
    wait_until(lambda: process.get("/readyz").status_code == 503)
    assert process.get("/healthz").status_code == 200


def test_sigterm_finishes_the_batch_under_way(world: World, process: Process) -> None:
    go_on = threading.Event()

    def rule(_sent: Sent) -> Fault | None:
        go_on.wait(20)
        return None

    world.server.rule = rule
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", seed="a", instance_number=n) for n in range(10)}
    wait_until(lambda: world.server.requests)
    process.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: '"stopping"' in process.output)
    assert process.popen.poll() is None
    go_on.set()
    assert process.popen.wait(60) == 0
    assert world.done() == dropped
    row = world.study(sample_uid("a", "study"))
    assert row
    assert row["instance_count"] == 10, "what was stored is listed before the end"


@pytest.mark.timeout(120)
def test_sigterm_does_not_wait_for_an_archive_that_hangs(world: World) -> None:
    never = threading.Event()
    world.server.rule = lambda _sent: Hangs(never)
    content = world.drop("a.dcm")
    process = Process.start(world, ARCHIVE_TIMEOUT_SECONDS="60", patch="daemon.STOP_SECONDS = 1")
    wait_until(lambda: world.server.requests)
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 20, "not for the 60 s of its timeout"
    never.set()
    assert world.waiting() == {"a.dcm": content}


def test_once_drains_what_is_there_and_ends(world: World) -> None:
    dropped = {f"{n}.dcm": world.drop(f"{n}.dcm", seed="a", instance_number=n) for n in range(30)}
    assert run(world, "--once")[0] == 0
    assert world.done() == dropped
    row = world.study(sample_uid("a", "study"))
    assert row
    assert (row["instance_count"], row["marked"]) == (30, row["refreshed"])
    assert world.imports()


def test_once_says_that_a_file_failed(world: World) -> None:
    world.drop("a.dcm")
    world.drop("b.dcm", b"no image")
    assert run(world, "--once")[0] == 1
    assert set(world.done()) == {"a.dcm"}
    assert world.reasons() == {"b.dcm": "not-dicom"}


def test_once_gives_up_when_nothing_moves_and_the_files_stay(world: World) -> None:
    world.server.stop()
    content = world.drop("a.dcm")
    code, said = run(world, "--once", "--patience", "1.5")
    assert code == 1
    assert "files still wait" in said
    assert world.waiting() == {"a.dcm": content}
    assert world.failures() == {}


def test_once_is_patient_with_files_that_only_cool_down(world: World) -> None:
    dropped = {"a.dcm": world.drop("a.dcm")}
    assert run(world, "--once", "--patience", "8", COOLDOWN_SECONDS="9")[0] == 0
    assert world.done() == dropped


def test_an_inbox_that_is_unmounted_is_not_an_empty_one(world: World, process: Process) -> None:
    world.server.rule = lambda _sent: Answers(503)
    world.drop("a.dcm")
    wait_until(lambda: world.server.requests)
    world.inbox.rename(world.data / "away")
    world.inbox.mkdir()
    (world.inbox / NORTH).mkdir()
    (world.inbox / NORTH / "b.dcm").write_bytes(instance_bytes(seed="b"))
    wait_until(lambda: process.get("/readyz").json()["inbox"] is False)
    assert 'importer_waiting_files{clinic="northside"} 1.0' in process.get("/metrics").text
    world.server.rule = lambda _sent: None
    time.sleep(1)
    assert (world.inbox / NORTH / "b.dcm").exists(), "this is not the inbox that we serve"
    (world.inbox / NORTH / "b.dcm").unlink()
    (world.inbox / NORTH).rmdir()
    world.inbox.rmdir()
    (world.data / "away").rename(world.inbox)
    wait_until(lambda: set(world.done()) == {"a.dcm"})
    wait_until(lambda: process.get("/readyz").status_code == 200)


def test_killed_before_an_imports_end_it_has_put_on_record_whose_study_it_stored(world: World) -> None:
    """Even if the clinic takes the rest of the folder away, so that nobody goes on with it."""
    study, killed = sample_uid("a", "study"), threading.Event()
    begun_before: list[list[str]] = []

    def imports_on_record() -> list[str]:
        return [row["action"] for row in world.rows(audit) if row["study_uid"] == study]

    def rule(sent: Sent) -> Fault | None:
        begun_before.append(imports_on_record())
        return Hangs(killed) if sent.number else None

    world.server.rule = rule
    for number in range(30):
        world.drop(f"folder/{number:02}.dcm", seed="a", instance_number=number)
    process = Process.start(world, UPLOAD_WORKERS="1")
    wait_until(lambda: len(world.server.requests) == 2 and len(world.done()) == 20)
    process.kill()
    killed.set()
    shutil.rmtree(world.inbox / NORTH / "folder")

    with world.running():
        wait_until(lambda: (world.study(study) or {})["instance_count"] == 20)
    assert imports_on_record() == ["import-begun"]
    assert begun_before == [["import-begun"]] * 2, "before the archive has its first byte"


def killed_at_work(world: World, moment: float) -> None:
    """Start one, and kill it so long after its first request."""
    before = len(world.server.requests)
    process = Process.start(world, UPLOAD_WORKERS="1", COOLDOWN_SECONDS="0.05")
    wait_until(lambda: len(world.server.requests) > before or process.popen.poll() is not None)
    time.sleep(moment)
    process.kill()


@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_loses_nothing_and_files_each_once(world: World) -> None:
    """SIGKILL again and again while files are read, reserved, sent, answered, moved and written down."""
    world.drop("bad.dcm", b"no image")
    dropped: dict[str, bytes] = {}

    def drop_until_there_are(count: int) -> None:
        missing = count - len(world.waiting())
        for n in range(len(dropped), len(dropped) + missing + -missing % 5):
            path = f"study {n % 5}/{n}.dcm"
            dropped[path] = world.drop(path, seed=n % 5, instance_number=n)

    # One batch after the other, slowly, so that each kill meets some work.
    world.server.rule = lambda _sent: time.sleep(0.01)
    for moment in (0.01, 0.08, 0.03, 0.0, 0.06, 0.02, 0.1, 0.04, 0.015, 0.05, 0.005, 0.07):
        # However long the one before lived on a busy machine, this one has work.
        drop_until_there_are(150)
        killed_at_work(world, moment)
    world.server.rule = lambda _sent: None
    assert run(world, "--once")[0] in {0, 1}
    assert world.done() == dropped
    assert world.waiting() == {}
    assert world.reasons() == {"bad.dcm": "not-dicom"}
    assert len(world.server.stored) == len(dropped)
    for seed in range(5):
        row = world.study(sample_uid(seed, "study"))
        assert row
        assert (row["state"], row["instance_count"], row["marked"]) == (
            "confirmed",
            len(dropped) // 5,
            row["refreshed"],
        )
