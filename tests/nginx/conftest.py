"""nginx by its production files, in front of the real gateway and a real archive."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from demo.archive import create_archive
from pacs.settings import ArchiveSettings
from support.gateway import SampleArchive, running
from support.nginx import missing_program
from support.nginx_site import INDEX, Site, running_site
from support.orthanc import Orthanc, orthanc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["orthanc"]


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """nginx is optional, but not in CI."""
    if what := missing_program():
        if os.environ.get("CI"):
            pytest.fail(f"{what} is not installed, and CI must have it")
        pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few files as OHIF's package has them."""
    folder = tmp_path_factory.mktemp("viewer") / "ohif"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app-config.js").write_text("window.config = 'of the package'")
    (folder / "app.bundle.0f6159c501addfe9.js").write_text("let a = 0;\n" * 1000)
    (folder / "0ddf166f7a343eda.wasm").write_bytes(b"\0asm")
    (folder / "app.bundle.css").write_text("*{}")
    (folder / "manifest.json").write_text("{}")
    (folder / "assets" / "icon.png").write_bytes(b"png")
    for withheld in ("_headers", "_redirects", "google.js", "serve.json", "silent-refresh.html", "sw.js"):
        (folder / withheld).write_text("withheld")
    (folder.parent / "secret.txt").write_text("secret")
    return folder


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


@pytest.fixture(scope="session")
def embedded_site(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    embedded_archive: SampleArchive,
    viewer: Path,
) -> Iterator[Site]:
    with running_site(
        tmp_path_factory.mktemp("nginx"), sqlite_template, embedded_archive, viewer, {}
    ) as site:
        yield site


@pytest.fixture(scope="session")
def orthanc_site(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    orthanc_archive: SampleArchive,
    viewer: Path,
) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("nginx"), sqlite_template, orthanc_archive, viewer, {}) as site:
        yield site


@pytest.fixture
def site(embedded_site: Site) -> Site:
    """One for all tests; who turns something turns it back. Its archive is the embedded one."""
    return embedded_site


@pytest.fixture(params=["embedded", "orthanc"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """Once in front of the embedded archive, once of Orthanc."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


@pytest.fixture
def make_site(
    tmp_path: Path, sqlite_template: Path, embedded_archive: SampleArchive, viewer: Path
) -> Iterator[Callable[..., Site]]:
    """One of the test's own, with changed files perhaps."""
    with ExitStack() as stack:

        def make(changes: Mapping[str, str] | None = None) -> Site:
            return stack.enter_context(
                running_site(tmp_path, sqlite_template, embedded_archive, viewer, changes or {})
            )

        yield make
