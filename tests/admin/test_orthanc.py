"""`reindex` and `status` against a real Orthanc, which keeps and pages in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog.schema import studies
from pacs.settings import ArchiveSettings
from support.corpus import instance_bytes, sample_uid
from support.dicom_files import tag_bytes
from support.orthanc import Orthanc, require_installed
from support.site import NORTH, SOUTH, Site, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def orthanc(sqlite_site: Site, tmp_path: Path) -> Iterator[Orthanc]:
    """One of the test's own: reindex looks at the whole of an archive."""
    require_installed()
    server = Orthanc.start(tmp_path, overwrite=False)
    sqlite_site.env |= {
        "ARCHIVE_URL": server.dicomweb_url,
        "ARCHIVE_USERNAME": server.username,
        "ARCHIVE_PASSWORD": server.password,
    }
    yield server
    server.stop()


def test_a_lost_catalog_is_rebuilt_from_orthanc(
    sqlite_site: Site, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sqlite_site
    site.add_clinics()
    site.inbox.mkdir(parents=True)
    settings = ArchiveSettings(
        archive_url=orthanc.dicomweb_url,
        archive_username=orthanc.username,
        archive_password=orthanc.password,  # type: ignore[arg-type]
    )
    archive = DicomWebArchive(settings)
    for number in range(12):
        clinic, patient = (NORTH, "kazakh") if number % 2 else (SOUTH, "japanese")
        content = instance_bytes(patient=patient, seed=number, institution="Sample" if number < 6 else None)
        store(archive, tag_bytes(content, clinic))
    untagged = sample_uid("untagged")
    store(archive, instance_bytes(study_uid=untagged, seed="untagged"))
    tells_of_overwriting = archive.overwrites() is not None
    archive.close()
    told = site.done("reindex")
    assert "13 studies in the archive" in told
    assert "12 got their owner back (northside, southside)" in told
    assert f"{untagged}: not all of its series were stored through clinicpacs" in told
    rows = site.rows(studies)
    assert sorted(row["clinic_id"] for row in rows) == [NORTH] * 6 + [SOUTH] * 6
    assert {(row["state"], row["instance_count"], row["modalities"]) for row in rows} == {
        ("confirmed", 1, "\\CT\\")
    }
    assert {row["patient_id"] for row in rows} == {"SAMPLE-3", "SAMPLE-5"}
    # Without DefaultEncoding Utf8, Orthanc 1.10.1 answers QIDO in Latin-1 and leaves the letters out.
    assert {row["patient_name_key"] for row in rows} == {
        "\nmihon^aki\n見本^秋\nみほん^あき\n",
        "\nүлгі^әсем\n",  # noqa: RUF001 - Kazakh
    }
    assert "12 refreshed" in site.done("reindex")
    assert ("keeps the old image when a corrected one" in site.done("status")) is tells_of_overwriting
