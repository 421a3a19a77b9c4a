"""A frozen PostgreSQL: its kernel acknowledges what is sent, and no time limit of its own runs out."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from gateway.app import create_app
from pacs.catalog import Catalog, bounded
from support.gateway import MINE, World, gateway_settings
from support.importing import wait_until
from support.postgres import Cluster, binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.gateway import Issuer, SampleArchive

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One of its own: whoever shares one would be frozen, too."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    made = Cluster.start(found)
    yield made
    made.stop()


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    first = int((cluster.data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    everybody = [first, *map(int, children)]
    for each in everybody:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in everybody:
            os.kill(each, signal.SIGCONT)


def test_a_frozen_catalog_is_a_503_and_serves_again_when_it_thaws(
    cluster: Cluster,
    make_world: Callable[..., World],
    embedded_archive: SampleArchive,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "ANSWER_SECONDS", 1)
    url = SecretStr(cluster.new_database())
    with closing(Catalog.open(url)) as catalog:
        world = make_world(catalog, embedded_archive)
        world.close()
    settings = gateway_settings(issuer, embedded_archive.settings, database_url=url)
    world.app = create_app(settings, clock=world.clock)
    ready = partial(world.app.test_client().get, "/readyz")
    paths = ("/studies", f"/studies/{MINE.study}/metadata", f"{MINE.path()}/frames/1")
    assert [world.get(path).status_code for path in paths] == [200] * 3
    assert ready().status_code == 200
    with frozen(cluster):
        # By connections that were kept, by new ones, and by one of the pool.
        for ask in (*(partial(world.get, path) for path in paths), ready):
            began = time.monotonic()
            answer = ask()
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert time.monotonic() - began < 30
    wait_until(lambda: [world.get(path).status_code for path in paths] == [200] * 3)
    world.app.extensions["gateway"].close()


def test_who_has_long_work_to_do_waits_for_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The importer and an administrator's commands."""
    monkeypatch.setattr(bounded, "ANSWER_SECONDS", 0.5)
    catalog = Catalog.open(SecretStr(cluster.new_database()))
    with catalog.read() as connection:
        connection.execute(text("SELECT pg_sleep(1)"))
        assert connection.scalar(text("SHOW statement_timeout")) == "1min"
    catalog.close()


def test_a_statement_that_takes_long_ends_on_the_server_first(cluster: Cluster) -> None:
    catalog = Catalog.open(SecretStr(cluster.new_database()), bounded=True)
    limits = ("statement_timeout", "lock_timeout")
    with catalog.read() as connection:
        told = [str(connection.scalar(text(f"SHOW {each}"))) for each in limits]
    assert all(int(each.removesuffix("s")) < bounded.ANSWER_SECONDS for each in told)
    catalog.close()
