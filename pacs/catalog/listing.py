"""The worklist as a whole beside what an archive lists: a page of studies compared and written at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, true, update

from pacs.catalog import ownership, worklist
from pacs.catalog.schema import UtcDateTime, series, studies
from pacs.catalog.worklist import OvertakenError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from pacs.archive import ListedStudy
    from pacs.ids import Uid

_CONFIRMED_SERIES = (
    select(func.count())
    .select_from(series)
    .where(series.c.study_uid == studies.c.study_uid, series.c.confirmed == true())
    .scalar_subquery()
    .label("confirmed_series")
)


def rows(snapshot: Connection, study_uids: Collection[Uid]) -> dict[str, Row[*tuple[Any, ...]]]:
    """The rows of these studies; to be read from a snapshot that is older than the archive's answer."""
    # Times are left out: to read them costs more than all of the rest.
    wanted = [column for column in studies.c if not isinstance(column.type, UtcDateTime)]
    found = snapshot.execute(select(*wanted, _CONFIRMED_SERIES).where(studies.c.study_uid.in_(study_uids)))
    return {row.study_uid: row for row in found}


def changes(row: Row[*tuple[Any, ...]], listed: ListedStudy, *, anew: bool = False) -> dict[str, Any] | None:
    """The columns that what the archive lists would write; none if the row says the same already.

    Never none with `anew`. None when a listing does not tell enough: of a series without a row, of a study
    that is only reserved, of one that is not counted.
    """
    is_known = row.state in {"confirmed", "missing"} and row.confirmed_series == listed.series_count > 0
    if not (is_known and listed.instance_count and listed.modalities):
        return None
    said = worklist.owned_by(listed, row.clinic_id)
    written = {"state": "confirmed", **worklist.columns(said, row.patient_id)}
    is_same = all(getattr(row, name) == value for name, value in written.items())
    return {} if is_same and not anew else written


def record(
    connection: Connection,
    written: Mapping[Uid, dict[str, Any]],
    before: Mapping[str, Row[*tuple[Any, ...]]],
    *,
    now: datetime,
    settles_at: datetime,
) -> None:
    """Write `changes` of several studies and raise their revisions; dirty ones stay dirty.

    Raises:
        OvertakenError: one of the rows is not as it was before, or is being written; nothing was changed.
    """
    if not written:
        return
    # Rows that somebody holds are not waited for: whoever writes several could wait for one of ours in turn.
    free = (
        select(studies.c.study_uid).where(studies.c.study_uid.in_(written)).with_for_update(skip_locked=True)
    )
    locked = len(connection.execute(free).all())
    values = [
        {
            "of": study_uid,
            "was": before[study_uid].revision,
            "stood": before[study_uid].state,
            "revision": ownership.revision_after(before[study_uid].revision, now),
            "changed_at": now,
            "settled": False,
            "settles_at": settles_at,
            **columns,
        }
        for study_uid, columns in sorted(written.items())
    ]
    statement = update(studies).where(
        studies.c.study_uid == bindparam("of"),
        studies.c.revision == bindparam("was"),
        studies.c.state == bindparam("stood"),
    )
    changed = connection.execute(statement, values).rowcount if locked == len(values) else 0
    if changed != len(values):
        raise OvertakenError("a study's row was written by someone else meanwhile")
