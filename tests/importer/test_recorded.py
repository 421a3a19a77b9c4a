"""What the importer puts into the audit trail."""

from __future__ import annotations

import io
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from importer import bookkeeper
from importer.bookkeeper import Bookkeeper
from importer.ledger import Ledger
from importer.metrics import ImporterMetrics
from importer.reading.claims import Claims
from importer.recorded import events
from importer.sending.health import Health
from pacs import logs
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import audit, clinics
from pacs.catalog.audit.verification import verify
from pacs.catalog.imports import ImportRow
from pacs.catalog.ownership import Claim, Granted
from pacs.catalog.schema import audit as table
from pacs.ids import Uid
from support.corpus import instance_bytes, sample_uid
from support.importing import NORTH, SOUTH, metric, wait_until
from support.stow_server import Answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.catalog import Catalog
    from support.importing import World


def test_each_study_folder_and_outcome_is_on_record_without_its_name(world: World) -> None:
    for number in range(3):
        world.drop(f"Sample^Aurora/{number}.dcm", seed="a", instance_number=number)
    world.drop("Sample^Aurora/notes.txt", b"dear colleague")
    world.drop("Sample^Aurora/cut.dcm", instance_bytes(seed="cut")[:-100])
    with world.running():
        wait_until(lambda: len(world.rows(table)) == 4)
    begun, *others = sorted(world.rows(table), key=lambda row: row["action"])
    assert (begun["action"], begun["study_uid"], begun["count"]) == (
        "import-begun",
        sample_uid("a", "study"),
        1,
    )
    rows = {row["detail"]: row for row in others}
    stored = rows["stored"]
    assert (stored["action"], stored["subject"]) == ("study-imported", "service:importer")
    assert (stored["clinic_id"], stored["study_uid"]) == (NORTH, sample_uid("a", "study"))
    assert (stored["count"], stored["allowed"]) == (3, True)
    told = {(row["detail"], row["study_uid"], row["allowed"]) for row in others}
    assert told - {("stored", sample_uid("a", "study"), True)} == {
        ("failed: not-dicom", None, False),
        ("failed: truncated", sample_uid("cut", "study"), False),
    }
    assert "Aurora" not in str(world.rows(table))
    with world.catalog.snapshot() as connection:
        assert verify(connection).is_whole


def test_an_import_that_waits_for_the_archive_begins_once(world: World) -> None:
    """However often the archive is tried meanwhile; its next file begins another one."""
    world.server.rule = lambda sent: Answers(503) if sent.number < 4 else None
    for number in range(3):
        world.drop(f"{number}.dcm", seed="a", instance_number=number)

    def told() -> list[tuple[str, int]]:
        rows = sorted(world.rows(table), key=lambda row: row["id"])
        return [(row["action"], row["count"]) for row in rows]

    with world.running_fast():
        wait_until(lambda: len(told()) == 2)
        assert told() == [("import-begun", 1), ("study-imported", 3)]
        world.drop("3.dcm", seed="a", instance_number=3)
        wait_until(lambda: len(told()) == 4)
    assert told()[2:] == [("import-begun", 1), ("study-imported", 1)]
    assert len(world.server.requests) > 5


def test_a_study_begins_once_however_many_series_it_has_and_not_for_who_is_refused(catalog: Catalog) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    with catalog.write() as connection:
        for clinic_id in (NORTH, SOUTH):
            clinics.add(connection, clinic_id, clinic_id.title(), now)
    claims = Claims(catalog, lambda: now)
    study, other = Uid("1.2.3"), Uid("1.2.4")
    own = [Claim(NORTH, study, Uid(f"1.2.3.{n}"), "P") for n in (1, 2)]
    asked = [*own, Claim(SOUTH, study, Uid("1.2.3.3"), "P"), Claim(SOUTH, other, Uid("1.2.4.1"), "P")]
    assert claims.reserve(asked, 0, {study, other}).count(Granted.OWNED) == 3
    claims.reserve([Claim(NORTH, study, Uid("1.2.3.4"), "P")], 0, set())
    with catalog.read() as connection:
        found = [(row["action"], row["clinic_id"], row["study_uid"]) for row in audit.recent(connection, 9)]
    assert sorted(found) == [("import-begun", NORTH, study), ("import-begun", SOUTH, other)]


def test_failed_files_of_one_folder_are_one_row() -> None:
    def failed(path: str, reason: str, folder: str = "a") -> ImportRow:
        return ImportRow(NORTH, folder, Uid("1.2"), "failed", 1, 10, path, reason)

    made = events([failed("a/1", "truncated"), failed("a/2", "not-dicom"), failed("b/1", "truncated", "b")])
    assert [(each.detail, each.count) for each in made] == [
        ("failed: not-dicom, truncated", 2),
        ("failed: truncated", 1),
    ]


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.mark.usefixtures("logs_as_before")
@pytest.mark.parametrize("level", ["info", "error"])
def test_the_head_of_the_trail_is_logged_once_a_day_at_any_level(world: World, level: str) -> None:
    days = [datetime(2026, 1, 2, 9, tzinfo=UTC)]
    with world.catalog.write() as connection:
        audit.append(connection, audit.AuditEvent("reindex", "os:ada"), days[0])
        head = audit.head(connection)
    keeper = Bookkeeper(
        world.catalog,
        DicomWebArchive(world.settings()),
        Claims(world.catalog, lambda: days[-1]),
        Ledger(),
        Health(metrics := ImporterMetrics()),
        metrics=metrics,
        stable_age_seconds=0,
        clock=time.monotonic,
        now=lambda: days[-1],
        nothing_waits=lambda: True,
    )
    said = io.StringIO()
    logs.configure("importer", level, said)
    for passed in (timedelta(0), timedelta(hours=14), timedelta(hours=2), timedelta(hours=1)):
        days.append(days[-1] + passed)
        keeper.sweep([NORTH])
        keeper.step()
    told = [json.loads(line) for line in said.getvalue().splitlines()]
    heads = [each for each in told if each["event"] == "head of the audit trail"]
    assert [(each["audit_row"], each["hash"]) for each in heads] == [tuple(head)] * 2


def test_an_error_of_the_bookkeeper_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise ValueError

    monkeypatch.setattr(bookkeeper.ownership, "dirty", broken)
    with world.running() as importer:
        wait_until(lambda: metric(importer, "importer_internal_errors_total"))
