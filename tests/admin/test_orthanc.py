"""`reindex` and `status` against a real Orthanc, which keeps and pages in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog.schema import studies
from pacs.catalog.worklist import columns
from pacs.settings import ArchiveSettings
from support.corpus import PATIENTS, SamplePatient, instance_bytes, make_instance, sample_uid, to_bytes
from support.dicom_files import tag_bytes
from support.orthanc import PASSWORDS, Orthanc, require_installed
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


@pytest.mark.parametrize("user", ["importer", "admin"])
def test_a_listing_says_of_each_study_what_a_search_for_it_says(orthanc: Orthanc, user: str) -> None:
    """The administrators' user is answered by the REST API, where it tells enough; others by QIDO-RS."""

    def client(name: str) -> DicomWebArchive:
        password = PASSWORDS[name]
        return DicomWebArchive(
            ArchiveSettings(
                archive_url=orthanc.dicomweb_url,
                archive_username=name,
                archive_password=password,  # type: ignore[arg-type]
            )
        )

    archive = client("importer")
    for patient in PATIENTS:
        for modality in ("CT", "MR"):
            uid = sample_uid("listed", patient)
            store(archive, instance_bytes(modality, patient=patient, seed=patient, study_uid=uid))
    store(archive, _sparse("without", None), _sparse("empty", ""), _sparse("two values", "A^B\\C^D"))
    lister = client(user)
    ask = lister.lister()
    listed = [study for offset in range(0, 9, 3) for study in ask(offset, 3) if study]
    assert len(listed) == len({study.study_uid for study in listed}) == len(PATIENTS) + 3
    for study in listed:
        found = archive.study(study.study_uid)
        assert found is not None
        assert columns(study, "") == columns(found, "")
    archive.close()
    lister.close()


_TEXTS = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyTime",
)


def _sparse(name: str, text: str | None) -> bytes:
    """An instance with this, or nothing, where others have their texts."""
    ds = make_instance(seed=name, patient=SamplePatient(name, "Sample^Aurora"))
    ds.TimezoneOffsetFromUTC = "-0500" if text is None else ""
    for keyword in _TEXTS:
        if text is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, text if keyword.endswith(("Name", "Description")) else "")
    return to_bytes(ds)
