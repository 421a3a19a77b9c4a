"""Every query of every panel, asked of a real Prometheus and of a catalog that a real importer fills."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
import requests
import yaml
from pydantic import SecretStr
from sqlalchemy import make_url

import gateway.metrics
from pacs.catalog import Catalog, verifications
from pacs.catalog.monitor import ROLE
from pacs.catalog.verifications import Verification
from support import dashboards
from support.gateway import running
from support.importer_process import Process
from support.importing import NORTH, SOUTH, World, wait_until
from support.monitoring import MONITORING, ROOT, program, read_yaml
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from support.postgres import Cluster

_OTHERS: dict[str, str] = read_yaml(ROOT / "tests" / "monitoring" / "exposition.yml")


@pytest.fixture
def conninfo(postgres_cluster: Cluster) -> Iterator[str]:
    """A catalog as `clinicpacs migrate` leaves it, for the role `monitor`."""
    owner = psycopg.connect(
        host=str(postgres_cluster.folder), user="postgres", dbname="postgres", autocommit=True
    )
    with owner:
        owner.execute(f"CREATE ROLE {ROLE} LOGIN")
    url = postgres_cluster.new_database()
    catalog = Catalog.connect(SecretStr(url))
    catalog.migrate()
    catalog.close()
    database = make_url(url).database
    yield f"host={postgres_cluster.folder} user={ROLE} dbname={database}"
    postgres_cluster.drop_database(url)
    with psycopg.connect(host=str(postgres_cluster.folder), user="postgres", autocommit=True) as again:
        again.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def importer(tmp_path: Path, postgres_cluster: Cluster, conninfo: str) -> Iterator[Process]:
    """An importer of two clinics, of which one was verified; it has stored a file and failed another."""
    url = postgres_cluster.url(conninfo.rpartition("dbname=")[2])
    catalog = Catalog.open(SecretStr(url))
    world = World(tmp_path / "data", catalog, url)
    world.add_clinic(NORTH)
    world.add_clinic(SOUTH)
    with catalog.write() as connection:
        verifications.record(connection, Verification(NORTH, datetime.now(UTC), 1, 0, 0))
    world.server.start()
    process = Process.start(world)
    world.drop("one/image.dcm")
    world.drop("one/broken.dcm", b"no DICOM")
    yield process
    process.kill()
    world.server.stop()
    catalog.close()


def _exposition(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """The gateway's own metrics, and what was recorded of the other servers, by the job's name as path."""
    job = environ["PATH_INFO"].strip("/")
    start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
    return [gateway.metrics.exposition() if job == "gateway" else _OTHERS.get(job, "").encode()]


def _configuration(importer: Process, others: str) -> str:
    """Production's, with its labels, asking these servers and more often."""
    configuration = read_yaml(MONITORING / "prometheus" / "prometheus.yml")
    # Of those in files only `up` is kept.
    jobs = [job for job in configuration["scrape_configs"] if "static_configs" in job]
    for job in jobs:
        mine = job["job_name"] == "importer"
        job["metrics_path"] = "/metrics" if mine else f"/{job['job_name']}"
        job["scrape_interval"] = "300ms"
        job["scrape_timeout"] = "300ms"
        for name in ("basic_auth", "relabel_configs"):
            job.pop(name, None)
        for number, each in enumerate(job["static_configs"]):
            each["targets"] = [f"127.0.0.1:{importer.wait_started()}" if mine else others]
            each["labels"] = {k: v for k, v in each.get("labels", {}).items() if not k.startswith("__")}
            each["labels"]["instance"] = str(number)
    return yaml.safe_dump({"scrape_configs": jobs})


@contextmanager
def _prometheus(folder: Path, configuration: str) -> Iterator[str]:
    path, port = folder / "prometheus.yml", free_port()
    path.write_text(configuration)
    command = [
        program("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_ready(url), 90)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def _unanswered(url: str, conninfo: str) -> list[str]:
    found = dashboards.without_data(dashboards.prometheus(url), dashboards.catalog(conninfo))
    return [str(query) for query in found]


def test_every_query_of_every_panel_is_answered_with_data(
    tmp_path: Path, importer: Process, conninfo: str
) -> None:
    gateway.metrics.REQUESTS.labels("search-studies", "200").inc()
    gateway.metrics.SECONDS.labels("search-studies").observe(0.01)
    with (
        running(_exposition) as others,
        _prometheus(tmp_path, _configuration(importer, others.removeprefix("http://"))) as url,
    ):
        last: list[str] = []

        def answered() -> bool:
            last[:] = _unanswered(url, conninfo)
            return not last

        try:
            wait_until(answered, 90)
        except AssertionError:
            pytest.fail("\n".join(last))
        recent = [q for q in dashboards.queries() if q.panel == "Recent imports"]
        wait_until(lambda: len(dashboards.catalog(conninfo)(recent[0].text)) == 2)


def test_what_nobody_answers_is_told() -> None:
    asked = [query for query in dashboards.queries() if query.source == "prometheus"]
    told = dashboards.without_data(lambda _query: [])
    assert told == [query for query in asked if not query.may_be_empty]
    assert len(told) > 50
