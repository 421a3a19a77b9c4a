"""What the importer puts into the audit trail."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from importer.bookkeeper import Bookkeeper
from importer.ledger import Ledger
from importer.metrics import ImporterMetrics
from importer.reading.claims import Claims
from importer.recorded import events
from importer.sending.health import Health
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import audit
from pacs.catalog.audit.verification import verify
from pacs.catalog.imports import ImportRow
from pacs.catalog.schema import audit as table
from pacs.ids import Uid
from support.corpus import instance_bytes, sample_uid
from support.importing import NORTH, wait_until

if TYPE_CHECKING:
    import pytest

    from support.importing import World


def test_each_study_folder_and_outcome_is_on_record_without_its_name(world: World) -> None:
    for number in range(3):
        world.drop(f"Sample^Aurora/{number}.dcm", seed="a", instance_number=number)
    world.drop("Sample^Aurora/notes.txt", b"dear colleague")
    world.drop("Sample^Aurora/cut.dcm", instance_bytes(seed="cut")[:-100])
    with world.running():
        wait_until(lambda: len(world.rows(table)) == 3)
    rows = {row["detail"]: row for row in world.rows(table)}
    stored = rows["stored"]
    assert (stored["action"], stored["subject"]) == ("study-imported", "service:importer")
    assert (stored["clinic_id"], stored["study_uid"]) == (NORTH, sample_uid("a", "study"))
    assert (stored["count"], stored["allowed"]) == (3, True)
    told = {(row["detail"], row["study_uid"], row["allowed"]) for row in world.rows(table)}
    assert told - {("stored", sample_uid("a", "study"), True)} == {
        ("failed: not-dicom", None, False),
        ("failed: truncated", sample_uid("cut", "study"), False),
    }
    assert "Aurora" not in str(rows)
    with world.catalog.snapshot() as connection:
        assert verify(connection).is_whole


def test_failed_files_of_one_folder_are_one_row() -> None:
    def failed(path: str, reason: str, folder: str = "a") -> ImportRow:
        return ImportRow(NORTH, folder, Uid("1.2"), "failed", 1, 10, path, reason)

    made = events([failed("a/1", "truncated"), failed("a/2", "not-dicom"), failed("b/1", "truncated", "b")])
    assert [(each.detail, each.count) for each in made] == [
        ("failed: not-dicom, truncated", 2),
        ("failed: truncated", 1),
    ]


def test_the_head_of_the_trail_is_logged_once_a_day(world: World, caplog: pytest.LogCaptureFixture) -> None:
    days = [datetime(2026, 1, 2, 9, tzinfo=UTC)]
    with world.catalog.write() as connection:
        audit.append(connection, audit.AuditEvent("reindex", "os:ada"), days[0])
        head = audit.head(connection)
    keeper = Bookkeeper(
        world.catalog,
        DicomWebArchive(world.settings()),
        Claims(world.catalog, lambda: days[-1]),
        Ledger(),
        Health(ImporterMetrics()),
        stable_age_seconds=0,
        clock=time.monotonic,
        now=lambda: days[-1],
        nothing_waits=lambda: True,
    )
    for passed in (timedelta(0), timedelta(hours=14), timedelta(hours=2), timedelta(hours=1)):
        days.append(days[-1] + passed)
        keeper.sweep([NORTH])
        keeper.step()
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    heads = [each for each in told if each["event"] == "head of the audit trail"]
    assert [(each["audit_row"], each["hash"]) for each in heads] == [tuple(head)] * 2
