"""Importer and gateway at work on a catalog in trouble, and physicians who ask for a study meanwhile."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from gateway.clock import Clock
from pacs.catalog.schema import studies
from support.chaos_scene import FILES, WITHOUT_RIGHTS, alert_on
from support.corpus import sample_uid
from support.gateway import TurnedClock, running_issuer
from support.gateway_process import running_gateway
from support.importing import NORTH, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.chaos_scene import Scene
    from support.gateway import Issuer
    from support.gateway_process import GatewayProcess
    from support.importing import World

STUDY = sample_uid("before", "study")


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

    def import_one(self) -> None:
        self.scene.drop("before")
        wait_until(lambda: self.scene.world.done() == self.scene.dropped, 60)
        self.wait_served()

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
