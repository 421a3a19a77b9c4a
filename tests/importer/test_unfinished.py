"""The importer tells for how long a transfer or deletion of a study has not been finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pacs.catalog import ownership, transfers
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import Uid
from support.importing import NORTH, SOUTH, World, metric, wait_until

STUDY = Uid("1.2.3")


def test_the_age_of_what_is_not_finished_is_told_until_it_is(world: World) -> None:
    def told() -> float:
        return metric(importer, "importer_unfinished_changes_seconds") or 0.0

    begun = datetime.now(UTC) - timedelta(hours=2)
    with world.catalog.write() as connection:
        ownership.reserve(connection, Claim(NORTH, STUDY, Uid("1.2.3.1"), "P"), begun)
        ownership.confirm(connection, STUDY, [Uid("1.2.3.1")], begun)
        # Clean, so that the importer leaves the row alone.
        connection.execute(studies.update().values(refreshed=studies.c.marked))
        study = transfers.owned(connection, STUDY, lock=True)
        assert study
        transfers.begin(connection, study, SOUTH, begun)
    with world.running_fast() as importer:
        wait_until(lambda: 7200 <= told() < 7300)
        with world.catalog.write() as connection:
            transfers.bury(connection, study, begun - timedelta(hours=1))
        wait_until(lambda: told() >= 10800)
        with world.catalog.write() as connection:
            removal = transfers.begin_removal(connection, STUDY, begun)
            assert removal
            assert transfers.end_removal(connection, removal)
        wait_until(lambda: told() == 0)
