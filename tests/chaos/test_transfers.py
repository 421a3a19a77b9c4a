"""A transfer that is broken off at each point where it asks the archive, before and after the answer."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.filed import file_study
from support.site import NORTH, Site
from support.transferring import ONE, STEPS, broken_off_it_goes_on, lost_it_does_not_come_back

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs.archive.dicomweb import DicomWebArchive
    from pacs.catalog import Catalog
    from support.postgres import Cluster


@pytest.fixture
def filed(
    tmp_path: Path, catalog: Catalog, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, DicomWebArchive]]:
    monkeypatch.chdir(tmp_path)
    site = Site.at(tmp_path / "data", catalog, database_url)
    site.add_clinics()
    with site.archive() as archive:
        file_study(catalog, archive, NORTH, *ONE.files())
        yield site, archive


@pytest.fixture
def empty_url(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, sqlite_template: Path
) -> Iterator[str]:
    """Another catalog, of the same kind."""
    if database_url.startswith("sqlite"):
        shutil.copyfile(sqlite_template, tmp_path / "empty.db")
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    cluster: Cluster = request.getfixturevalue("postgres_cluster")
    url = cluster.new_database()
    yield url
    cluster.drop_database(url)


@pytest.mark.parametrize("after", [False, True], ids=["asked", "answered"])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_broken_off_it_goes_on(filed: tuple[Site, DicomWebArchive], at: int, *, after: bool) -> None:
    broken_off_it_goes_on(*filed, at, after=after)


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_catalog_lost_meanwhile_does_not_come_back_with_the_old_owner(
    filed: tuple[Site, DicomWebArchive], at: int, empty_url: str
) -> None:
    lost_it_does_not_come_back(*filed, at, empty_url)
