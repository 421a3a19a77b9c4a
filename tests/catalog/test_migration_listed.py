"""A catalog of the first version lists its studies as before, once it is migrated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from pacs.catalog import prepared, terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog import Catalog

SAID = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Sample^Aurora"}]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
}


@pytest.fixture
def of_the_first_version(old_catalog: Callable[[str], Catalog]) -> Catalog:
    """With one study that is listed, and one that is only reserved."""
    catalog = old_catalog("0001")
    with catalog.write() as connection:
        connection.execute(
            text("INSERT INTO clinics (id, name, created_at) VALUES ('north', 'North', '2026-01-01')")
        )
        for uid, state, said in (("1.2.3", "confirmed", json.dumps(SAID)), ("1.2.4", "provisional", "")):
            connection.execute(
                text(
                    "INSERT INTO studies (study_uid, clinic_id, patient_id, state, reserved_at, changed_at, "
                    "patient_name_key, modalities, series_count, instance_count, dicom_json) "
                    "VALUES (:uid, 'north', 'P7', :state, '2026-01-01', '2026-01-01', :name, "
                    "'\\CT\\', 1, 9, :said)"
                ),
                {"uid": uid, "state": state, "said": said, "name": "\nsample^aurora\n"},
            )
    return catalog


def test_what_was_listed_is_prepared_and_has_its_terms(of_the_first_version: Catalog) -> None:
    of_the_first_version.migrate()
    with of_the_first_version.read() as connection:
        rows = connection.execute(
            text("SELECT study_uid, terms, dicom_json FROM studies ORDER BY study_uid")
        ).all()
    found = json.loads(prepared.with_address(rows[0].dicom_json, "https://pacs.example/studies/1.2.3"))
    assert found["00100010"] == SAID["00100010"]
    assert found["00080061"]["Value"] == ["CT"]
    assert found["00201208"]["Value"] == [9]
    assert found["00081190"]["Value"] == ["https://pacs.example/studies/1.2.3"]
    assert terms.to_find("patient_name_key", "aurora") <= set(rows[0].terms.split())
    assert tuple(rows[1]) == ("1.2.4", "", "")
