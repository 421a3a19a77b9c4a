"""The report beside a failed file: `<name>.error.json`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from importer.files.names import ERROR_JSON
from importer.files.scratch import temporary_file
from importer.files.tree import open_file
from pacs.ids import InvalidUidError, Uid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pacs.ids import ClinicId

_REPORT_LIMIT = 1 << 16
_TEXT_LIMIT = 1000
_REASON = re.compile(r"[a-z0-9-]{1,64}")


class MalformedReportError(ValueError):
    """An `.error.json` that the importer cannot have written."""


@dataclass(frozen=True)
class Report:
    """Why a file failed.

    Attributes:
        reason: stable code, such as `truncated` or `study-owned-by-another-clinic`.
        text: one sentence for a person.
        failed_at: when.
        size: of the file when it failed, in bytes, and
        mtime_ns: its time of modification: a file that no longer has them was written to since.
        study_uid: as far as it was known.
        series_uid: as far as it was known.
        sop_instance_uid: as far as it was known.
        dismissed_at: when somebody acknowledged it; None while it calls for attention.
    """

    reason: str
    text: str
    failed_at: datetime
    size: int
    mtime_ns: int
    study_uid: Uid | None = None
    series_uid: Uid | None = None
    sop_instance_uid: Uid | None = None
    dismissed_at: datetime | None = None

    def to_json(self) -> bytes:
        """As it is written."""
        names = {"study_uid": "StudyInstanceUID", "series_uid": "SeriesInstanceUID"}
        names |= {"sop_instance_uid": "SOPInstanceUID", "dismissed_at": "dismissed"}
        fields = {names.get(key, key): value for key, value in vars(self).items() if value is not None}
        return json.dumps(fields, indent=2, default=datetime.isoformat, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """From the file's contents.

        Raises:
            MalformedReportError: they are no report.
        """
        try:
            parsed = json.loads(text)
            return cls(
                reason=_reason(parsed["reason"]),
                text=str(parsed["text"])[:_TEXT_LIMIT],
                failed_at=_time(parsed["failed_at"]),
                size=int(parsed["size"]),
                mtime_ns=int(parsed["mtime_ns"]),
                study_uid=_uid(parsed, "StudyInstanceUID"),
                series_uid=_uid(parsed, "SeriesInstanceUID"),
                sop_instance_uid=_uid(parsed, "SOPInstanceUID"),
                dismissed_at=_time(parsed["dismissed"]) if parsed.get("dismissed") else None,
            )
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            raise MalformedReportError("not a report of the importer") from error


def _reason(text: Any) -> str:
    if not isinstance(text, str) or not _REASON.fullmatch(text):
        raise ValueError("not a reason code")
    return text


def _time(text: Any) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time


def _uid(parsed: Mapping[str, Any], name: str) -> Uid | None:
    try:
        return Uid(parsed[name]) if name in parsed else None
    except InvalidUidError:
        return None


def read_report(folder_fd: int, name: str) -> Report | None:
    """The report beside a failed file; None when there is none that can be read."""
    try:
        descriptor, _ = open_file(folder_fd, name + ERROR_JSON)
    except OSError:
        return None
    try:
        return Report.parse(os.pread(descriptor, _REPORT_LIMIT, 0))
    except (MalformedReportError, OSError):
        return None
    finally:
        os.close(descriptor)


def write_report(failed_root: Path, clinic_id: ClinicId, folder_fd: int, name: str, report: Report) -> None:
    """Write the report of the file `name` in an open folder, atomically; it is on disk afterwards."""
    with temporary_file(failed_root, clinic_id) as (file, scratch_fd, temporary):
        file.write(report.to_json())
        file.flush()
        os.fsync(file.fileno())
        os.rename(temporary, name + ERROR_JSON, src_dir_fd=scratch_fd, dst_dir_fd=folder_fd)
    os.fsync(folder_fd)
