"""Brings one study's row in the catalog up to date with the archive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pacs.catalog import ownership, worklist

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.archive import Archive
    from pacs.catalog import Catalog
    from pacs.ids import Uid


_ATTEMPTS = 3


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
    A caller that does not know the files under way (`clinicpacs reindex`) leaves it out; a clean study stays
    clean.

    Raises:
        pacs.archive.ArchiveUnavailableError: the archive gave no answer.
        pacs.catalog.CatalogUnavailableError: the catalog cannot be used.
    """

    def once() -> Refreshed:
        with catalog.read() as connection:
            before = worklist.standing(connection, study_uid)
        clean = not busy()
        archived = archive.study(study_uid)
        found = Refreshed(archived is not None, before and before.marks)
        if before is None or (archived is None and not hide_missing):
            return found
        with catalog.write() as connection:
            if archived is None:
                worklist.record_missing(connection, study_uid, before, clean=clean, now=now())
            else:
                settles_at = ownership.settles_at(now(), stable_age_seconds)
                worklist.record(connection, archived, before, clean=clean, now=now(), settles_at=settles_at)
        return found

    for _ in range(_ATTEMPTS - 1):
        with suppress(worklist.OvertakenError):
            return once()
    return once()
