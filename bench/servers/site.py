"""The platform as a browser reaches it: `python -m gateway` behind nginx by our files, with an issuer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import select, update

from demo.processes import free_port
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, clinics, ownership, worklist
from pacs.catalog.schema import studies
from pacs.ids import ClinicId, Uid
from pacs.settings import ArchiveSettings
from support.gateway import TurnedClock, running_issuer
from support.nginx import Nginx
from support.nginx_services import Names
from support.orthanc import PASSWORDS, Orthanc
from support.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.gateway import Issuer

CLINIC = ClinicId("northside")
ROOT = Path(__file__).parents[2]
_START_SECONDS = 120


class _ProductionNginx(Nginx):
    """With production's cache, which is in memory, and look-ups of names instead of the tests' small ones."""

    @cached_property
    def frames(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="clinicpacs-bench-frames-", dir="/dev/shm"))

    def environment(self) -> dict[str, str]:
        production = {"ARCHIVE_GATEWAY_PASSWORD": PASSWORDS["gateway"], "FRAME_CACHE_SIZE": "1g"}
        return super().environment() | production

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.frames, ignore_errors=True)


_people = count(1)


@dataclass(frozen=True)
class Site:
    """What runs, and who may ask it.

    Attributes:
        gateway_url: of the gateway itself, without nginx: ``http://127.0.0.1:PORT/dicom-web``.
        nginx: the one server that browsers see; its `public_url` is ``https://localhost:PORT``.
        plain_port: where nginx serves the same without TLS, which production does not.
        catalog: the gateway's own, for what has to be in it.
        archive: what the gateway asks; None where a site has none.
    """

    gateway_url: str
    nginx: Nginx
    plain_port: int
    catalog: Catalog
    issuer: Issuer
    archive: Orthanc | None
    process: subprocess.Popen[bytes]

    def token(self, name: str = "nora", *, clinic: str = CLINIC, roles: Iterable[str] = ()) -> str:
        """An access token of RS256, good for two hours."""
        until = datetime.now(UTC) + timedelta(hours=2)
        groups = [f"/clinics/{clinic}"] if clinic else []
        return self.issuer.token(name, groups=groups, roles=list(roles), exp=int(until.timestamp()))

    def new_token(self) -> str:
        """Of somebody who has not asked for anything: no limit by user has counted yet."""
        return self.token(f"nora-{next(_people)}")

    def gateway_pids(self) -> list[int]:
        """The gateway's processes: gunicorn's own and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def nginx_pids(self) -> list[int]:
        """nginx's processes."""
        assert self.nginx.process is not None
        pid = self.nginx.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the gateway's samples of that name which bear these labels."""
        text = urllib3.request("GET", f"{self.gateway_url.removesuffix('/dicom-web')}/metrics").data.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def own(self, study: Uid, clinic: ClinicId = CLINIC) -> None:
        """Write into the catalog what the importer writes about a study that it has stored, and settle it."""
        assert self.archive is not None
        archive = self.archive
        client = DicomWebArchive(
            ArchiveSettings(
                archive_url=archive.dicomweb_url,
                archive_username=archive.username,
                archive_password=SecretStr(archive.password),
            )
        )
        found = client.study(study)
        client.close()
        assert found is not None
        now = datetime.now(UTC)
        with self.catalog.write() as connection:
            for series in found.series_uids:
                claim = ownership.Claim(clinic, study, Uid(series), found.text("00100020"))
                assert ownership.reserve(connection, claim, now) is ownership.Granted.OWNED
            before = worklist.standing(connection, study)
            assert before is not None
            worklist.record(connection, found, before, clean=True, now=now, settles_at=now)
            ownership.settle(connection, now)

    def renew(self, study: Uid) -> None:
        """Raise a study's revision, as a new image does: nothing of before is found in nginx's cache."""
        with self.catalog.write() as connection:
            mine = studies.c.study_uid == study
            before = connection.scalar(select(studies.c.revision).where(mine))
            after = ownership.revision_after(before, datetime.now(UTC))
            connection.execute(update(studies).where(mine).values(revision=after))


@contextmanager
def running(
    folder: Path,
    archive: Orthanc | None = None,
    *,
    database_url: str = "",
    workers: int = 2,
    threads: int = 16,
    **settings: str,
) -> Iterator[Site]:
    """A site with one clinic, `CLINIC`, until the block ends.

    Args:
        folder: for its files.
        archive: what the gateway and nginx ask; None for what the catalog answers alone.
        database_url: of a migrated catalog, with studies perhaps; an SQLite file in `folder` if not given.
        workers: processes of the gateway (GATEWAY_WORKERS).
        threads: requests at once in each of them (GATEWAY_THREADS).
        settings: of the gateway, over these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = database_url or f"sqlite:///{folder}/catalog.db"
    with ExitStack() as stack:
        catalog = Catalog.open(SecretStr(url))
        stack.callback(catalog.close)
        with catalog.write() as connection:
            clinics.add(connection, CLINIC, "Northside", datetime.now(UTC))
        issuer = stack.enter_context(running_issuer(TurnedClock(datetime.now(UTC))))
        names = Names(dict.fromkeys(("gateway", "keycloak", "orthanc", "grafana"), "127.0.0.1"))
        stack.callback(names.close)
        nginx, plain_port = _nginx(folder / "nginx", names.address, archive)
        stack.callback(nginx.stop)
        nginx.start()
        given = {
            "DATABASE_URL": url,
            "GATEWAY_PORT": str(nginx.upstreams["gateway"]),
            "GATEWAY_WORKERS": str(workers),
            "GATEWAY_THREADS": str(threads),
            "OIDC_ISSUER": issuer.issuer,
            "PUBLIC_URL": nginx.public_url,
            "ACCEL_PREFIX": "/_archive",
            "TRUSTED_PROXIES": "127.0.0.1/32",
        }
        process = stack.enter_context(_gateway(folder, given | _archive_settings(archive) | settings))
        gateway = f"http://127.0.0.1:{nginx.upstreams['gateway']}"
        wait_until(lambda: _is_ready(gateway, process), _START_SECONDS, "the gateway is ready", every=0.05)
        yield Site(f"{gateway}/dicom-web", nginx, plain_port, catalog, issuer, archive, process)


def _archive_settings(archive: Orthanc | None) -> dict[str, str]:
    if archive is None:
        return {}
    return {
        "ARCHIVE_URL": archive.dicomweb_url,
        "ARCHIVE_USERNAME": "gateway",
        "ARCHIVE_PASSWORD": PASSWORDS["gateway"],
    }


def _nginx(folder: Path, resolver: str, archive: Orthanc | None) -> tuple[Nginx, int]:
    plain_port = free_port()
    changes = {
        "valid=5s": "valid=5s",
        # A second way in, to tell what TLS costs.
        "    include snippets/gateway.conf;": f"    listen 127.0.0.1:{plain_port};\n"
        "    include snippets/gateway.conf;",
    }
    nobody = free_port()
    upstreams = {
        "gateway": free_port(),
        "keycloak": nobody,
        "orthanc": urlsplit(archive.url).port or nobody if archive else nobody,
        "grafana": nobody,
    }
    return _ProductionNginx(folder, upstreams, resolver, folder, changes), plain_port


@contextmanager
def _gateway(folder: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    log = (folder / "gateway.log").open("ab")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def _is_ready(gateway: str, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"the gateway ended with code {process.returncode}; see its gateway.log")
    try:
        return urllib3.request("GET", f"{gateway}/readyz", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False
