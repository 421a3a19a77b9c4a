"""Real Orthancs by the configuration that production mounts: this machine's and, if there, Debian 13's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from bench.servers import orthanc as debian
from pacs.archive.dicomweb import DicomWebArchive
from pacs.settings import ArchiveSettings
from support.orthanc import orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.orthanc import Orthanc

__all__ = ["orthanc"]


@pytest.fixture(scope="module", params=["this machine's", "Debian 13's"])
def server(
    request: pytest.FixtureRequest, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """The oldest one that is supported, and that of production."""
    if request.param == "this machine's":
        yield orthanc
    elif (debian.ROOT / "usr/sbin/Orthanc").exists():
        with debian.running(tmp_path_factory.mktemp("debian")) as running:
            yield running
    else:
        pytest.skip("bench/servers/debian.sh was not run")


@pytest.fixture
def archive(server: Orthanc) -> Iterator[DicomWebArchive]:
    client = DicomWebArchive(
        ArchiveSettings(
            archive_url=server.dicomweb_url,
            archive_username=server.username,
            archive_password=SecretStr(server.password),
        )
    )
    yield client
    client.close()
