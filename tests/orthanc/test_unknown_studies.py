"""A study that a real Orthanc has and the catalog does not know: whose it is, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from pacs.archive.dicomweb import DicomWebArchive
from pacs.settings import ArchiveSettings
from support.dicom_files import tag_bytes
from support.filed import Referral
from support.importing import World, wait_until
from support.orthanc import PASSWORDS
from support.site import NORTH, SOUTH, Site, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.orthanc import Orthanc

OWN, THEIRS, NOBODYS = Referral("lost by north"), Referral("lost by south"), Referral("put there by hand")


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[DicomWebArchive]:
    """As the user who may delete, too."""
    settings = ArchiveSettings(
        archive_url=orthanc.dicomweb_url,
        archive_username="admin",
        archive_password=SecretStr(PASSWORDS["admin"]),
    )
    client = DicomWebArchive(settings)
    yield client
    client.close()


@pytest.fixture
def site(tmp_path: Path, sqlite_catalog: Catalog, orthanc: Orthanc) -> Site:
    made = Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")
    made.env |= {
        "ARCHIVE_URL": orthanc.dicomweb_url,
        "ARCHIVE_USERNAME": orthanc.username,
        "ARCHIVE_PASSWORD": orthanc.password,
    }
    return made


@pytest.fixture
def world(site: Site, orthanc: Orthanc) -> World:
    options = {"archive_url": orthanc.dicomweb_url, "archive_username": orthanc.username}
    made = World(
        site.data,
        site.catalog,
        str(site.env["DATABASE_URL"]),
        options=options | {"archive_password": orthanc.password},
    )
    made.add_clinic(NORTH)
    made.add_clinic(SOUTH)
    return made


def test_an_unknown_study_goes_to_nobody_whose_it_is_not(
    site: Site, world: World, archive: DicomWebArchive
) -> None:
    importers = DicomWebArchive(world.settings())
    store(importers, *(tag_bytes(each, NORTH) for each in OWN.files()[1:]))
    store(importers, *(tag_bytes(each, SOUTH) for each in THEIRS.files()[1:]))
    store(importers, *NOBODYS.files()[1:])
    importers.close()
    contents = {
        name: study.file(1, 1) for name, study in (("own", OWN), ("theirs", THEIRS), ("none", NOBODYS))
    }
    for name, content in contents.items():
        world.drop(f"{name}.dcm", content)
    with world.running():
        wait_until(lambda: world.done() == {"own.dcm": contents["own"]})
        wait_until(lambda: (world.study(OWN.uid) or {})["instance_count"] == 4)
        wait_until(lambda: len(world.reasons()) == 2)
        assert set(world.reasons().values()) == {"study-without-owner"}
        assert {world.study(each.uid) and each for each in (THEIRS, NOBODYS)} == {None}
        for each in (THEIRS, NOBODYS):
            found = archive.study(each.uid)
            assert found
            assert found.instance_count == 3, "nothing was sent"

        # reindex knows whose one of them is.
        site.done("reindex")
        assert (world.study(THEIRS.uid) or {})["clinic_id"] == SOUTH
        told = site.done("conflicts", NORTH)
        assert "belongs to Southside (southside)" in told
        assert "the catalog has no owner" in told
        archive.delete(NOBODYS.uid)
        site.done("retry", NORTH)
        wait_until(lambda: world.done().keys() == {"own.dcm", "none.dcm"})
        wait_until(lambda: world.reasons() == {"theirs.dcm": "study-owned-by-another-clinic"})
        wait_until(lambda: (world.study(NOBODYS.uid) or {})["state"] == "confirmed")
    assert (world.study(NOBODYS.uid) or {})["clinic_id"] == NORTH
    assert (world.study(THEIRS.uid) or {})["clinic_id"] == SOUTH
