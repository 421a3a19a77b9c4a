"""The importer tells what the last verification of each clinic's files found."""

from __future__ import annotations

from datetime import UTC, datetime

from pacs.catalog import verifications
from pacs.catalog.verifications import Verification
from support.importing import NORTH, SOUTH, World, metric, wait_until


def test_the_last_verification_is_told_while_the_importer_runs(world: World) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with world.running_fast() as importer:
        for missing, different in ((2, 1), (0, 0)):
            with world.catalog.write() as connection:
                verifications.record(connection, Verification(NORTH, at, 5, missing, different))
            faults = float(missing + different)
            wait_until(lambda: metric(importer, "importer_unverified_files", clinic=NORTH) == faults)  # noqa: B023
        assert metric(importer, "importer_verified_timestamp_seconds", clinic=NORTH) == at.timestamp()
        # Nothing of a clinic that was never verified: neither well nor long ago.
        assert metric(importer, "importer_unverified_files", clinic=SOUTH) is None
        assert metric(importer, "importer_verified_timestamp_seconds", clinic=SOUTH) is None
