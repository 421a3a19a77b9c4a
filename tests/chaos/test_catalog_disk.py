"""R3: the disk of a catalog on SQLite full, read-only, forbidden and gone under importer and gateway."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from pacs.catalog import Catalog, CatalogUnavailableError
from support.chaos_scene import make_trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.chaos_disks import Disk
    from support.chaos_served import Platform
    from support.importing import World

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


@pytest.mark.timeout(240)
def test_a_catalog_on_a_disk_in_trouble_stops_nobody_for_good(
    make_world: Callable[..., World], start: Callable[[World], Platform], trouble: Trouble
) -> None:
    platform = start(make_world(catalog_folder=trouble.place))
    workers = platform.workers()
    platform.import_one()
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
    platform.import_one()
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
