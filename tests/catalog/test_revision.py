"""A revision stands for one state of a study's images, for ever: nginx keeps frames under it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pacs.catalog.ownership import revision_after

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def test_a_catalog_that_was_set_back_comes_to_no_revision_again() -> None:
    kept = revision_after(0, NOW)
    before = [revision_after(kept, NOW + timedelta(minutes=minute)) for minute in (1, 2, 3)]
    after_a_restore = revision_after(kept, NOW + timedelta(minutes=10))
    assert after_a_restore not in {kept, *before}


def test_it_rises_within_a_second_and_under_a_clock_that_went_back() -> None:
    first = revision_after(0, NOW)
    assert revision_after(first, NOW) == first + 1
    assert revision_after(first, NOW - timedelta(days=1)) == first + 1
    assert revision_after(0, datetime(2090, 1, 1, tzinfo=UTC)) < 2**31
