"""Whether the archive holds what was handed over: of the clinics chosen on the page."""

from __future__ import annotations

from .dashboard import Row
from .panels import ALL_IS_WELL, BAD, GOOD, WARN, bars, query

_DAY = 86400


def verified() -> Row:
    """The last verification of each clinic's files in processed, and what the archive said when it stored."""
    altered = 'sum by (reason) (increase(importer_warnings_total{clinic=~"$clinic"}[$__range]))'

    def last(metric: str) -> str:
        return f'max by (clinic) ({metric}{{clinic=~"$clinic"}})'

    return Row(
        "Verified",
        [
            bars(
                "Not in the archive as imported",
                "Files in processed that the last verification (clinicpacs verify) found missing or different"
                " in the archive.",
                [query(last("importer_unverified_files"), "{{clinic}}", instant=True)],
                steps=ALL_IS_WELL,
                no_value="never verified",
                size=(8, 6),
            ),
            bars(
                "Last verification",
                "How long ago it ended. The alert fires after eight days.",
                [
                    query(
                        f"time() - {last('importer_verified_timestamp_seconds')}", "{{clinic}}", instant=True
                    )
                ],
                unit="s",
                steps=[(0, GOOD), (7 * _DAY, WARN), (8 * _DAY, BAD)],
                no_value="never verified",
                size=(8, 6),
            ),
            bars(
                "Altered when stored",
                "Files that the archive, as it said itself, did not store as they were sent, in the time"
                " chosen above.",
                [query(altered, "{{reason}}", instant=True)],
                decimals=0,
                steps=ALL_IS_WELL,
                size=(8, 6),
            ),
        ],
    )
