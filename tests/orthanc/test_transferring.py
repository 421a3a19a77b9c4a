"""`transfer` and `delete` with a real Orthanc, as its users `importer` and `admin`."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from pydicom import dcmread

from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog.schema import studies
from pacs.settings import ArchiveSettings
from support.filed import Referral, file_study
from support.orthanc import PASSWORDS
from support.site import NORTH, SOUTH, Site
from support.transferring import stored, tags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.orthanc import Orthanc

ONE, OTHER = Referral("one"), Referral("other")


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[DicomWebArchive]:
    settings = ArchiveSettings(
        archive_url=orthanc.dicomweb_url,
        archive_username=orthanc.username,
        archive_password=SecretStr(orthanc.password),
    )
    client = DicomWebArchive(settings)
    yield client
    client.close()


@pytest.fixture
def site(tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    made = Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")
    made.env |= {
        "ARCHIVE_URL": orthanc.dicomweb_url,
        "ARCHIVE_USERNAME": orthanc.username,
        "ARCHIVE_PASSWORD": orthanc.password,
    }
    made.add_clinics()
    return made


def test_a_study_is_transferred_and_deleted(site: Site, archive: DicomWebArchive) -> None:
    file_study(site.catalog, archive, NORTH, *ONE.files())
    file_study(site.catalog, archive, NORTH, *OTHER.files())
    before, untouched = stored(archive, ONE), stored(archive, OTHER)
    told = site.done("transfer", ONE.uid, "--to", SOUTH)
    assert f"4 images of study {ONE.uid} tagged for southside" in told
    assert tags(archive) == {(SOUTH, 2)}
    after = stored(archive, ONE)
    assert after.keys() == before.keys()
    for sop_uid, content in after.items():
        assert dcmread(BytesIO(content)).PixelData == dcmread(BytesIO(before[sop_uid])).PixelData
    (row,) = [each for each in site.rows(studies) if each["study_uid"] == ONE.uid]
    # Orthanc itself goes on naming the old one at the study's level.
    assert (row["clinic_id"], SOUTH in row["dicom_json"], NORTH in row["dicom_json"]) == (SOUTH, True, False)
    site.done("reindex")
    (row,) = [each for each in site.rows(studies) if each["study_uid"] == ONE.uid]
    assert NORTH not in row["dicom_json"]

    refused = site.run("delete", ONE.uid, "--yes")
    assert (refused.exit_code, "ARCHIVE_ADMIN_PASSWORD" in refused.stderr) == (1, True), refused.stderr
    assert archive.study(ONE.uid) is not None
    site.done("delete", ONE.uid, ARCHIVE_ADMIN_PASSWORD=PASSWORDS["admin"])
    assert archive.study(ONE.uid) is None
    assert stored(archive, OTHER) == untouched
