"""Which clinics may have owned an archived image, in order."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import select

from pacs.catalog.schema import studies, transfers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pacs.catalog import Catalog
    from pacs.ids import ClinicId, Uid

_STUDIES = 1024
"""A study's files mostly lie together."""


class Owners:
    """The studies' owners. Safe to share among threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._noted = lru_cache(_STUDIES)(self._now)

    def may_have_had(self, study_uid: Uid, filed_by: ClinicId, owners: Sequence[ClinicId]) -> bool:
        """Whether a clinic's image can have been tagged for these, one after another.

        Raises:
            pacs.catalog.CatalogUnavailableError: it cannot be read.
        """
        first, last = owners[0], owners[-1]
        # What was noted may be from before a transfer, and what is so now from after it.
        return first == filed_by and any(last in ask(study_uid, filed_by) for ask in (self._noted, self._now))

    def _now(self, study_uid: Uid, filed_by: ClinicId) -> frozenset[str]:
        """Who may be the last: in the middle of a transfer it may be an earlier owner."""
        query = select(studies.c.clinic_id, transfers.c.from_clinic).select_from(
            studies.outerjoin(transfers, transfers.c.study_uid == studies.c.study_uid)
        )
        with self._catalog.read() as connection:
            row = connection.execute(query.where(studies.c.study_uid == study_uid)).first()
        if row is None:
            return frozenset({filed_by})
        earlier = {row.from_clinic, filed_by} if row.from_clinic else set()
        return frozenset({row.clinic_id, *earlier})
