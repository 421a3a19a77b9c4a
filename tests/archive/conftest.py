"""The archives under test: the embedded one, and a real Orthanc to compare it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from demo.archive.server import running
from support.archives import Study, Web
from support.orthanc import Orthanc, orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["orthanc"]


@pytest.fixture
def study() -> Study:
    return Study()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    root = tmp_path_factory.mktemp("archive")
    login = ("importer", "secret")
    with (
        running(root, username=login[0], password=login[1]) as process,
        Web("embedded", process.url, login, root, process) as web,
    ):
        yield web


@pytest.fixture(params=["embedded", "orthanc"])
def archive(request: pytest.FixtureRequest) -> Web:
    """The embedded archive, and then Orthanc: what a test says holds for both."""
    if request.param == "embedded":
        web: Web = request.getfixturevalue("embedded")
        return web
    server: Orthanc = request.getfixturevalue("orthanc")
    return Web("orthanc", server.dicomweb_url, (server.username, server.password))
