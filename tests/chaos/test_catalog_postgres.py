"""R3: the disk of a catalog on PostgreSQL full under importer and gateway."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import missing
from pydantic import SecretStr
from sqlalchemy import make_url

from pacs.catalog import Catalog
from support.chaos import again_and_again
from support.importing import NORTH, SOUTH, World, wait_until
from support.postgres import Cluster, binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.chaos_disks import Disk
    from support.chaos_served import Platform

_SETTINGS = {"listen_addresses": "", "max_connections": "60", "max_wal_size": "48MB"}


@pytest.fixture
def disk(new_tmpfs: Callable[..., Disk]) -> Iterator[Disk]:
    """One that the server's own user may reach."""
    place = Path(tempfile.mkdtemp(prefix="clinicpacs-pg-disk-"))
    place.chmod(0o755)
    disk = new_tmpfs(place, "size=256m")
    yield disk
    disk.dismantle()
    shutil.rmtree(place)


@pytest.fixture
def cluster(disk: Disk) -> Iterator[Cluster]:
    found = binaries()
    if found is None:
        missing("PostgreSQL's server")
    made = Cluster.start(found, _SETTINGS, disk.place / "data")
    made.folder.chmod(0o755)
    yield made
    made.stop()


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    url = cluster.new_database()
    with closing(Catalog.open(SecretStr(url))) as catalog:
        made = World(tmp_path / "data", catalog, url)
        made.add_clinic(NORTH)
        made.add_clinic(SOUTH)
        made.server.start()
        yield made
        made.server.stop()


@contextmanager
def restarted_unless_stopped(cluster: Cluster) -> Iterator[None]:
    """Whenever the server has ended it is started again, as compose does with its container."""

    def look() -> None:
        if not cluster.is_serving:
            with suppress(subprocess.CalledProcessError):
                cluster.serve()

    with again_and_again(look):
        yield


def run_out_of_log(world: World) -> None:
    """Write until the server needs another segment of its log, which makes it panic."""
    url = make_url(world.database_url)
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(
            host=str(url.query["host"]), user="postgres", dbname=url.database, autocommit=True
        ) as connection,
    ):
        while True:
            connection.execute("SELECT pg_logical_emit_message(true, '', 'told'), pg_switch_wal()")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("panics", [False, True], ids=["refuses", "panics"])
def test_a_catalog_whose_server_has_no_room_stops_nobody_for_good(
    world: World, cluster: Cluster, disk: Disk, start: Callable[[World], Platform], *, panics: bool
) -> None:
    """It refuses what needs another page; without room for its log it ends, and can then not even start."""
    platform = start(world)
    workers = platform.workers()
    platform.import_one()
    with restarted_unless_stopped(cluster):
        filler = disk.fill()
        if panics:
            run_out_of_log(world)
            wait_until(lambda: not cluster.is_serving, 60)
        platform.drop_many()
        platform.assert_trouble_is_told({503} if panics else {200, 503})
        platform.scene.assert_nothing_lost()
        filler.unlink()
        platform.assert_all_is_well()
    told = (cluster.folder / "log").read_text()
    assert "No space left on device" in told
    assert ("PANIC" in told) == panics
    assert platform.workers() == workers
