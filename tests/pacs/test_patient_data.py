"""The check of the suite's own logs finds what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import patient_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "line",
    [
        "could not read inbox/northside/SAMPLE^AURORA/1.dcm",
        "GET /studies?PatientName=*aurora*",
        "patient id SAMPLE-1",
        '{"event": "Образцова"}',
        '{"event": "\\u041e\\u0431\\u0440\\u0430\\u0437\\u0446\\u043e\\u0432\\u0430"}',
        "Mihon^Aki",
        "northside/Sample_Boris/ct",
    ],
)
def test_a_patient_in_a_line_is_found(line: str, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text(f"fine\n{line}\n", encoding="utf-8")
    found = patient_data.in_logs(tmp_path)
    log.unlink()
    assert len(found) == 1


def test_a_clean_line_passes() -> None:
    assert not patient_data.find(
        '{"clinic": "northside", "study_uid": "1.2.3", "event": "a sample was stored"}'
    )
