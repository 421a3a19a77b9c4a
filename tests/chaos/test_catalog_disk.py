"""R3: the disk of a catalog on SQLite full, read-only, forbidden and gone under importer and gateway."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from pydantic import SecretStr

from gateway.clock import Clock
from pacs.catalog import Catalog, CatalogUnavailableError
from pacs.catalog.schema import studies
from support.chaos_scene import FILES, WITHOUT_RIGHTS, alert_on, make_trouble
from support.corpus import sample_uid
from support.gateway import TurnedClock, running_issuer
from support.gateway_process import running_gateway
from support.importing import NORTH, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.chaos_disks import Disk
    from support.chaos_scene import Scene
    from support.gateway import Issuer
    from support.gateway_process import GatewayProcess
    from support.importing import World

STUDY = sample_uid("before", "study")
SILENT = frozenset({"inodes", "file-forbidden"})
"""Troubles that who has the catalog open need not notice."""
UNREADABLE = frozenset({"forbidden", "unmounted"})


@dataclass
class Trouble:
    """What befalls the catalog's disk at `place`; `begin` returns what ends it."""

    name: str
    place: Path
    begin: Callable[[], Callable[[], object]]


@pytest.fixture(params=["full", "inodes", "forbidden", "file-forbidden", "unmounted"])
def trouble(
    request: pytest.FixtureRequest,
    new_tmpfs: Callable[..., Disk],
    new_share: Callable[..., Disk],
    tmp_path: Path,
) -> Trouble:
    place, name = tmp_path / "disk", request.param
    if name == "unmounted":
        return Trouble(name, place, partial(take_away, new_share(place)))
    disk = new_tmpfs(place, "size=16m,nr_inodes=200")
    if name == "forbidden":
        return Trouble(name, place, partial(forbid, place))
    if name == "file-forbidden":
        return Trouble(name, place, partial(forbid, place / "catalog.db"))
    return Trouble(name, place, partial(make_trouble, disk, name))


def take_away(disk: Disk) -> Callable[[], object]:
    disk.detach()
    return disk.mount


def forbid(path: Path) -> Callable[[], object]:
    mode = path.stat().st_mode
    path.chmod(0)
    return lambda: path.chmod(mode)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer(TurnedClock(Clock().now())) as issuer:
        yield issuer


_physicians = count()


@dataclass
class Platform:
    """Importer and gateway at work, and physicians who ask for a study."""

    scene: Scene
    gateway: GatewayProcess
    issuer: Issuer

    def ask(self, path: str) -> int:
        """By somebody who asks for the first time: that a study is opened has to be put on record then."""
        token = self.issuer.token(f"nora-{next(_physicians)}")
        url = f"{self.gateway.url}/dicom-web{path}"
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code

    def search(self) -> int:
        return self.ask(f"/studies?StudyInstanceUID={STUDY}")

    def open(self) -> int:
        return self.ask(f"/studies/{STUDY}/series")

    def wait_served(self) -> None:
        wait_until(lambda: (self.search(), self.open()) == (200, 200), 60)

    def workers(self) -> str:
        pid = self.gateway.popen.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()

    def drop_many(self) -> None:
        """Studies that nobody owns yet."""
        for number in range(FILES):
            self.scene.drop(f"during {number}", count=1)

    def assert_trouble_is_told(self, searches: set[int]) -> None:
        wait_until(lambda: self.scene.metric("importer_catalog_up") == 0, 60)
        assert alert_on("importer_catalog_up") == "CatalogUnreachable"
        # What fits into the room that the database has already is still written: it may come and go.
        assert 1 <= self.scene.lines("the catalog is away") <= 4
        wait_until(lambda: self.open() == 503, 30)
        assert self.search() in searches

    def assert_all_is_well(self) -> None:
        scene, world = self.scene, self.scene.world
        scene.assert_recovered()
        wait_until(lambda: scene.metric("importer_catalog_up") == 1)
        self.wait_served()
        wait_until(lambda: sum(row["files"] for row in world.imports()) == len(scene.dropped), 60)
        found = world.rows(studies)
        assert len(found) == FILES + 1
        assert {(row["clinic_id"], row["state"]) for row in found} == {(NORTH, "confirmed")}


@pytest.fixture
def start(
    begin: Callable[..., Scene], issuer: Issuer, tmp_path: Path
) -> Iterator[Callable[[World], Platform]]:
    """Starts importer and gateway with no more rights than files give them."""
    with ExitStack() as stack:

        def start(world: World) -> Platform:
            log = tmp_path / f"gateway-{len(list(tmp_path.glob('gateway-*')))}.log"
            gateway = stack.enter_context(
                running_gateway(issuer, world.server.url, world.database_url, log, WITHOUT_RIGHTS)
            )
            return Platform(begin(world), gateway, issuer)

        yield start


def import_one(platform: Platform) -> None:
    platform.scene.drop("before")
    wait_until(lambda: platform.scene.world.done() == platform.scene.dropped, 60)
    platform.wait_served()


@pytest.mark.timeout(240)
def test_a_catalog_on_a_disk_in_trouble_stops_nobody_for_good(
    make_world: Callable[..., World], start: Callable[[World], Platform], trouble: Trouble
) -> None:
    platform = start(make_world(catalog_folder=trouble.place))
    workers = platform.workers()
    import_one(platform)
    end_trouble = trouble.begin()
    platform.drop_many()
    if trouble.name not in SILENT:
        platform.assert_trouble_is_told({503} if trouble.name in UNREADABLE else {200, 503})
    platform.scene.assert_nothing_lost()
    end_trouble()
    platform.assert_all_is_well()
    assert platform.workers() == workers


@pytest.mark.timeout(240)
def test_a_catalog_on_a_disk_that_fails_and_is_mounted_anew(
    make_world: Callable[..., World],
    new_ext4: Callable[..., Disk],
    start: Callable[[World], Platform],
    tmp_path: Path,
) -> None:
    """The kernel makes it read-only, for good; whoever mends it stops the services first, as they use it."""
    disk = new_ext4(tmp_path / "disk", 64, "errors=remount-ro")
    world = make_world(catalog_folder=disk.place)
    disk.sync()
    platform = start(world)
    workers = platform.workers()
    import_one(platform)
    disk.damage()
    platform.drop_many()
    platform.assert_trouble_is_told({200, 503})
    platform.scene.assert_nothing_lost()
    assert platform.workers() == workers
    assert platform.gateway.stop() == 0
    assert platform.scene.process.terminate() == 0
    world.catalog.close()
    disk.unmount()
    disk.mount()
    again = start(world)
    again.scene.dropped = platform.scene.dropped
    again.assert_all_is_well()


def test_a_catalog_on_another_disk_is_not_taken_up_by_who_has_the_old_one_open(
    make_world: Callable[..., World], new_tmpfs: Callable[..., Disk], tmp_path: Path
) -> None:
    place = tmp_path / "disk"
    new_tmpfs(place)
    world = make_world(catalog_folder=place)
    url = SecretStr(world.database_url)
    with closing(Catalog.open(url)) as catalog:
        content = (place / "catalog.db").read_bytes()
        new_tmpfs(place)
        (place / "catalog.db").write_bytes(content)
        for _ in range(2):
            with pytest.raises(CatalogUnavailableError, match="on another disk"), catalog.read():
                pass
        with closing(Catalog.open(url)) as anew, anew.read():
            pass
