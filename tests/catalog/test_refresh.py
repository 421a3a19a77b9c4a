"""Bringing a row up to date while someone else does the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from sqlalchemy import select

from pacs.archive import Archive, ArchivedStudy
from pacs.catalog import clinics, ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, Uid
from pacs.refreshing import refresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog import Catalog

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NORTH, STUDY = ClinicId("northside"), Uid("1.2.3")


class Growing:
    """An archive with one study; while it is asked, `meanwhile` happens."""

    def __init__(self) -> None:
        self.instances = 1
        self.meanwhile: Callable[[], None] | None = None

    def study(self, study_uid: Uid) -> ArchivedStudy:
        answer = ArchivedStudy(
            study_uid,
            {"0020000D": {"vr": "UI", "Value": [study_uid]}},
            (
                {
                    "0020000E": {"vr": "UI", "Value": ["1.2.3.1"]},
                    "00201209": {"vr": "IS", "Value": [self.instances]},
                },
            ),
        )
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return answer


def test_of_two_refreshes_at_once_the_newer_answer_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        clinics.add(connection, NORTH, "Northside", NOW)
        ownership.reserve(connection, Claim(NORTH, STUDY, Uid("1.2.3.1"), "P1"), NOW)
    growing = Growing()
    archive = cast("Archive", growing)

    def store_and_refresh() -> None:
        growing.instances = 2
        refresh(catalog, archive, STUDY, stable_age_seconds=0, busy=lambda: False)

    growing.meanwhile = store_and_refresh
    refresh(catalog, archive, STUDY, stable_age_seconds=0)
    with catalog.read() as connection:
        row = connection.execute(select(studies)).one()
    assert row.instance_count == 2
    assert row.marked == row.refreshed
