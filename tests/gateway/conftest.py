"""A gateway in front of an archive with a few studies."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from demo.archive import create_archive
from pacs.catalog import Catalog
from pacs.settings import ArchiveSettings
from support.gateway import (
    STORED,
    SampleArchive,
    TurnedClock,
    World,
    add_clinics,
    own,
    running,
    running_issuer,
)
from support.orthanc import Orthanc, orthanc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.gateway import Issuer

__all__ = ["orthanc"]


@pytest.fixture(scope="session")
def embedded_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleArchive]:
    with running(create_archive(tmp_path_factory.mktemp("archive"))) as url:
        yield SampleArchive("embedded", ArchiveSettings(archive_url=f"{url}/dicom-web")).fill()


@pytest.fixture(scope="session")
def orthanc_archive(orthanc: Orthanc) -> SampleArchive:
    settings = ArchiveSettings(
        archive_url=orthanc.dicomweb_url,
        archive_username=orthanc.username,
        archive_password=SecretStr(orthanc.password),
    )
    return SampleArchive("orthanc", settings).fill()


@pytest.fixture(params=["embedded", "orthanc"])
def archive(request: pytest.FixtureRequest) -> SampleArchive:
    """An archive that holds the samples: once the embedded one, once Orthanc."""
    found: SampleArchive = request.getfixturevalue(f"{request.param}_archive")
    return found


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def issuer(clock: TurnedClock) -> Iterator[Issuer]:
    with running_issuer(clock) as issuer:
        yield issuer


@pytest.fixture(scope="session")
def still_world(sqlite_template: Path, embedded_archive: SampleArchive) -> Iterator[World]:
    """Shared by tests that only ask: its clock stands still, and nobody writes to its catalog."""
    with _still(sqlite_template, embedded_archive) as world:
        yield world


@pytest.fixture(scope="session")
def still_orthanc_world(sqlite_template: Path, orthanc_archive: SampleArchive) -> Iterator[World]:
    """The same in front of Orthanc."""
    with _still(sqlite_template, orthanc_archive) as world:
        yield world


@pytest.fixture(params=["still_world", "still_orthanc_world"], ids=["embedded", "orthanc"])
def both(request: pytest.FixtureRequest) -> World:
    """To be asked only: once in front of the embedded archive, once of Orthanc."""
    world: World = request.getfixturevalue(request.param)
    return world


@contextmanager
def _still(template: Path, archive: SampleArchive) -> Iterator[World]:
    path = template.with_name(f"still-{archive.kind}.db")
    shutil.copyfile(template, path)
    catalog = Catalog.open(SecretStr(f"sqlite:///{path}"))
    with running_issuer(TurnedClock()) as issuer:
        world = filled(World(catalog, issuer, archive))
        yield world
        world.close()
    catalog.close()


def filled(world: World) -> World:
    add_clinics(world.catalog)
    for sample in STORED:
        if sample.owner:
            own(world.catalog, sample, world.archive.said[sample.name])
    return world


@pytest.fixture
def make_world(issuer: Issuer) -> Iterator[Callable[..., World]]:
    """Makes gateways over a catalog and an archive, with the samples filed."""
    with ExitStack() as stack:

        def make(catalog: Catalog, archive: SampleArchive, **settings: Any) -> World:
            world = filled(World(catalog, issuer, archive, **settings))
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(
    sqlite_catalog: Catalog, embedded_archive: SampleArchive, make_world: Callable[..., World]
) -> World:
    """On SQLite and the embedded archive: for what depends on neither."""
    return make_world(sqlite_catalog, embedded_archive)


@pytest.fixture
def any_archive_world(
    sqlite_catalog: Catalog, archive: SampleArchive, make_world: Callable[..., World]
) -> World:
    """On SQLite; once with the embedded archive, once with Orthanc."""
    return make_world(sqlite_catalog, archive)


@pytest.fixture
def any_catalog_world(
    catalog: Catalog, embedded_archive: SampleArchive, make_world: Callable[..., World]
) -> World:
    """With the embedded archive; once on SQLite, once on PostgreSQL."""
    return make_world(catalog, embedded_archive)
