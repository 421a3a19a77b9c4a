"""The gateway as it runs: gunicorn, its limits, its logs, its end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from sqlalchemy import select

from gateway.clock import Clock
from pacs.catalog.schema import audit
from support.gateway import MINE, THEIRS, TurnedClock, World, running_issuer
from support.gateway_process import ROOT, GatewayProcess, environment, running_gateway
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pacs.catalog import Catalog
    from support.gateway import Issuer, SampleArchive


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """The server's clock is the machine's."""
    with running_issuer(TurnedClock(Clock().now())) as issuer:
        yield issuer


@dataclass(kw_only=True)
class Running(GatewayProcess):
    world: World


@pytest.fixture
def server(
    sqlite_catalog: Catalog,
    make_world: Callable[..., World],
    embedded_archive: SampleArchive,
    issuer: Issuer,
    tmp_path: Path,
) -> Iterator[Running]:
    world = make_world(sqlite_catalog, embedded_archive)
    database = f"sqlite:///{sqlite_catalog._engine.url.database}"
    archive_url = str(embedded_archive.settings.archive_url)
    with running_gateway(issuer, archive_url, database, tmp_path / "gateway.log") as gateway:
        yield Running(**vars(gateway), world=world)


def problem_in(answer: bytes) -> tuple[int, int]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["status"]


@pytest.mark.long
def test_clients_that_fall_silent_hold_up_nobody_for_long(server: Running) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2 * 4 * 2)]
    for connection in silent:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-")
    assert requests.get(f"{server.url}/healthz", timeout=60).ok
    for connection in silent:
        connection.close()


@pytest.mark.long
def test_more_kept_connections_than_threads_are_all_served(server: Running) -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    kept = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2 * 4 * 3)]
    for _ in range(3):
        for connection in kept:
            connection.sendall(asked)
        for connection in kept:
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
    for connection in kept:
        connection.close()


@pytest.mark.long
def test_it_listens_on_an_address_of_ipv6_too(
    issuer: Issuer, embedded_archive: SampleArchive, tmp_path: Path
) -> None:
    archive_url, database = str(embedded_archive.settings.archive_url), f"sqlite:///{tmp_path / 'c.db'}"
    with running_gateway(issuer, archive_url, database, tmp_path / "gateway.log", host="::1") as gateway:
        assert requests.get(f"{gateway.url}/healthz", timeout=60).ok


def test_it_serves_refuses_counts_and_stops(server: Running) -> None:
    issuer = server.world.issuer
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {issuer.token()}"
    assert len(session.get(f"{server.url}/dicom-web/studies?PatientName=Sample*").json()) == 3
    assert session.get(f"{server.url}/dicom-web{MINE.path()}/frames/1").status_code == 200
    assert session.get(f"{server.url}/dicom-web/studies/{THEIRS.study}/metadata").status_code == 404

    token = issuer.token().encode()
    host = b"Host: x\r\nConnection: close\r\n"
    authorized = host + b"Authorization: Bearer " + token + b"\r\n"
    study = MINE.study.encode()
    get = b"GET /dicom-web/studies/" + study + b"/series"
    assert problem_in(server.raw(get + b"?x=" + b"y" * 6000 + b" HTTP/1.1\r\n" + authorized + b"\r\n")) == (
        414,
        414,
    )
    assert problem_in(server.raw(get + b"?x=" + b"y" * 9000 + b" HTTP/1.1\r\n" + authorized + b"\r\n")) == (
        414,
        414,
    )
    long_token = b"Authorization: Bearer " + b"t" * 14_000 + b"\r\n"
    assert problem_in(server.raw(get + b" HTTP/1.1\r\n" + host + long_token + b"\r\n")) == (401, 401)
    longer_token = b"Authorization: Bearer " + b"t" * 20_000 + b"\r\n"
    assert problem_in(server.raw(get + b" HTTP/1.1\r\n" + host + longer_token + b"\r\n")) == (431, 431)
    assert problem_in(server.raw(b"GARBAGE\r\n\r\n")) == (400, 400)
    assert problem_in(server.raw(get + b"%5C1.2 HTTP/1.1\r\n" + authorized + b"\r\n"))[0] in {400, 404}
    for forged in (b"SCRIPT_NAME: /x", b"PATH_INFO: /healthz", b"Script-Name: /x", b"Remote_User: ada"):
        answer = server.raw(get + b" HTTP/1.1\r\n" + authorized + forged + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert server.raw(b"HEAD" + get[3:] + b" HTTP/1.1\r\n" + authorized + b"\r\n").endswith(b"\r\n\r\n")

    metrics = requests.get(f"{server.url}/metrics").text
    assert 'gateway_requests_total{route="search-studies",status="200"} 1.0' in metrics
    assert 'gateway_denied_total{reason="not-yours"} 1.0' in metrics
    age = next(line for line in metrics.splitlines() if line.startswith("gateway_jwks_age_seconds "))
    assert 0 <= float(age.split()[1]) < 60

    assert server.stop() == 0
    with server.world.catalog.read() as connection:
        of_studies = select(audit.c.allowed, audit.c.study_uid, audit.c.count).where(
            audit.c.study_uid.is_not(None)
        )
        kept = connection.execute(of_studies).all()
    assert sorted(kept) == sorted([(True, MINE.study, 1), (False, THEIRS.study, 1)])
    log = server.log.read_text()
    assert "Sample" not in log
    assert token.decode()[:40] not in log
    assert "/studies/" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    answered = [line for line in lines if line["event"] == "answered"]
    assert {"search-studies", "frames", "metadata"} <= {line["route"] for line in answered}
    assert {line["subject"] for line in answered if line["route"] == "frames"} == {"subject-of-nora"}


def refused(issuer: Issuer, archive: SampleArchive, database: str, **more: str) -> str:
    env = environment(issuer, str(archive.settings.archive_url), database, free_port()) | more
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_faulty_settings_are_told_all_at_once(
    issuer: Issuer, embedded_archive: SampleArchive, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'c.db'}"
    told = refused(
        issuer,
        embedded_archive,
        database,
        OIDC_ISSUER="issuer",
        PUBLIC_URL="pacs.example",
        ACCEL_PREFIX="x/../y",
        TRUSTED_PROXIES="everybody",
        GATEWAY_PORT="70000",
        OIDC_CLIENTS=",",
    )
    names = {line.split()[1].rstrip(":") for line in told.splitlines()}
    assert names == {
        "OIDC_ISSUER", "PUBLIC_URL", "ACCEL_PREFIX", "TRUSTED_PROXIES", "GATEWAY_PORT", "OIDC_CLIENTS",
    }  # fmt: skip


def test_a_port_in_use_is_one_sentence(
    issuer: Issuer, embedded_archive: SampleArchive, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(issuer, embedded_archive, f"sqlite:///{tmp_path / 'c.db'}", GATEWAY_PORT=str(port))
    assert told == f"clinicpacs: GATEWAY_HOST=127.0.0.1, GATEWAY_PORT={port}: Address already in use\n"


def test_a_catalog_of_a_newer_version_is_one_sentence(
    issuer: Issuer, embedded_archive: SampleArchive, sqlite_catalog: Catalog
) -> None:
    with sqlite_catalog.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    told = refused(issuer, embedded_archive, f"sqlite:///{sqlite_catalog._engine.url.database}")
    assert len(told.splitlines()) == 1
    assert "newer version" in told
