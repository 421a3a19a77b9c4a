"""Brings one study's row in the catalog up to date with the archive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pacs.catalog import ownership, worklist

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.ids import Uid


@dataclass(frozen=True)
class Refreshed:
    """What was found.

    Attributes:
        listed: whether the archive lists the study.
        marks: the study's mark counter before the archive was asked; None for a study without an owner.
    """

    listed: bool
    marks: int | None


def refresh(
    catalog: Catalog,
    archive: Archive,
    study_uid: Uid,
    *,
    stable_age_seconds: float,
    busy: Callable[[], bool] = lambda: True,
    hide_missing: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Refreshed:
    """Write what the archive says of the study into its row; one that it no longer lists is hidden.

    Not with `hide_missing` false: the row of a study that is not listed stays as it is then, dirty or not.

    The study's dirty mark is cleared only if `busy` says no, asked after the marks were read and before the
    archive is: then no file can be on its way that the archive's answer misses and the marks count.
    Who does not know the files under way (`clinicpacs reindex`) leaves it out; a clean study stays clean.

    Raises:
        pacs.archive.ArchiveUnavailableError: the archive gave no answer.
        pacs.catalog.CatalogUnavailableError: the catalog cannot be used.
    """
    with catalog.read() as connection:
        marks = worklist.marks(connection, study_uid)
    marks_before = None if busy() else marks
    archived = archive.study(study_uid)
    with catalog.write() as connection:
        if archived is None and hide_missing:
            worklist.record_missing(connection, study_uid, marks_before=marks_before, now=now())
        elif archived is not None:
            worklist.record(
                connection,
                archived,
                marks_before=marks_before,
                now=now(),
                settles_at=ownership.settles_at(now(), stable_age_seconds),
            )
    return Refreshed(archived is not None, marks)
