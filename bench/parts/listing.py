"""The study list as OHIF asks for it, over HTTP, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import random
import statistics
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from pydantic import SecretStr
from sqlalchemy import insert

from gateway.app import create_app
from gateway.clock import Clock
from gateway.settings import GatewaySettings
from pacs.archive import ArchivedStudy
from pacs.catalog import Catalog, clinics, worklist
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, Uid
from support import postgres
from support.gateway import CLIENT, TurnedClock, running, running_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

# The client and the server share a process here; its own log lines would be half of the time.
logging.getLogger("werkzeug").setLevel(logging.ERROR)

_CLINICS = [ClinicId(f"clinic-{number}") for number in range(10)]
_REQUESTS = 200
_QUERIES = {
    "newest": "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060",
    "by date": "limit=101&StudyDate=20240101-20240131",
    "by name": "limit=101&PatientName=*ampl*",
    "by patient id": "limit=101&00100020=P77",
    "by modality": "limit=101&ModalitiesInStudy=CT%2CMR",
}


def run(count: int) -> None:
    """Print the median answer time of each kind of question, for each database there is."""
    with tempfile.TemporaryDirectory(prefix="clinicpacs-bench-") as scratch:
        for name, url in _databases(Path(scratch)):
            catalog = Catalog.open(SecretStr(url))
            _fill(catalog, count)
            for kind, milliseconds in _measure(catalog).items():
                print(f"study list {kind}, {count} studies, {name}: p50 {milliseconds:.1f} ms")
            catalog.close()


@contextmanager
def _cluster() -> Iterator[postgres.Cluster | None]:
    found = postgres.binaries()
    cluster = postgres.Cluster.start(found) if found else None
    try:
        yield cluster
    finally:
        if cluster:
            cluster.stop()


def _databases(folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder}/catalog.db"
    with _cluster() as cluster:
        if cluster:
            yield "PostgreSQL", cluster.new_database()


def _fill(catalog: Catalog, count: int) -> None:
    chance = random.Random(1)
    now = datetime.now(UTC)
    with catalog.write() as connection:
        for clinic in _CLINICS:
            clinics.add(connection, clinic, clinic, now)
        rows = [_row(number, chance, now) for number in range(count)]
        connection.execute(insert(studies), rows)
    with catalog.write() as connection:
        connection.exec_driver_sql("ANALYZE")


def _row(number: int, chance: random.Random, now: datetime) -> dict[str, Any]:
    uid = Uid(f"1.2.826.0.1.3680043.10.{number}")
    day = date(2020, 1, 1) + timedelta(days=chance.randrange(2000))
    patient = chance.randrange(1 + number // 3)
    modality = chance.choice(["CT", "MR", "US", "CR", "DX"])

    def element(vr: str, value: Any) -> dict[str, Any]:
        return {"vr": vr, "Value": [value]}

    archived = ArchivedStudy(
        uid,
        {
            "0020000D": element("UI", uid),
            "00100010": element("PN", {"Alphabetic": f"Sample^Number{patient}"}),
            "00100020": element("LO", f"P{patient}"),
            "00080020": element("DA", f"{day:%Y%m%d}"),
            "00080030": element("TM", "101500"),
            "00080050": element("SH", f"A{number}"),
            "00081030": element("LO", f"{modality} of the head"),
        },
        (
            {
                "0020000E": element("UI", f"{uid}.1"),
                "00080060": element("CS", modality),
                "00201209": element("IS", 100),
            },
        ),
    )
    return {
        "study_uid": uid,
        "clinic_id": chance.choice(_CLINICS),
        "patient_id": f"P{patient}",
        "state": "confirmed",
        "revision": 1,
        "reserved_at": now,
        "changed_at": now,
        **worklist.columns(archived),
    }


def _measure(catalog: Catalog) -> dict[str, float]:
    with running_issuer(TurnedClock(datetime.now(UTC))) as issuer:
        settings = GatewaySettings(oidc_issuer=issuer.issuer, oidc_clients=frozenset({CLIENT}))
        app = create_app(settings, catalog=catalog, clock=Clock())
        token = issuer.token(groups=(f"/clinics/{_CLINICS[0]}",))
        pool = urllib3.PoolManager(headers={"Authorization": f"Bearer {token}"})
        with running(app) as url:
            return {kind: _p50(pool, f"{url}/dicom-web/studies?{query}") for kind, query in _QUERIES.items()}


def _p50(pool: urllib3.PoolManager, url: str) -> float:
    times = []
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        response = pool.request("GET", url)
        times.append(time.perf_counter() - began)
        if response.status not in {200, 204}:
            raise SystemExit(f"the gateway answered {response.status}: {response.data[:200]!r}")
    return statistics.median(times) * 1000
