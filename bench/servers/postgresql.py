"""PostgreSQL with production's settings: unlike the tests' server, this one is durable."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from support import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGURATION = Path(__file__).parents[2] / "postgres" / "postgresql.conf"
_SETTING = re.compile(r"^(\w+) = '?([^'#\n]*?)'?\s*(#.*)?$", re.MULTILINE)


def _settings() -> dict[str, str]:
    """Production's, but a socket and no port; what is logged stays the server's own choice."""
    found = {name: value for name, value, _ in _SETTING.findall(_CONFIGURATION.read_text())}
    return {name: value for name, value in found.items() if not name.startswith("log")} | {
        "listen_addresses": ""
    }


@dataclass(frozen=True)
class Server:
    """A running server."""

    cluster: postgres.Cluster

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return self.cluster.folder

    def new_catalog(self) -> str:
        """URL of a migrated, empty catalog."""
        return self.cluster.new_database()

    def for_orthanc(self) -> dict[str, str]:
        """What orthanc.json needs to use the database `orthanc` here, which is made if need be."""
        with psycopg.connect(host=str(self.folder), user="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'orthanc'").fetchone():
                connection.execute("CREATE ROLE orthanc LOGIN SUPERUSER")
                connection.execute("CREATE DATABASE orthanc OWNER orthanc")
        return {"ORTHANC_DB_HOST": str(self.folder), "ORTHANC_DB_PASSWORD": "", "ORTHANC_DB_CONNECTIONS": "1"}


@contextmanager
def running(data: Path | None = None, **settings: str) -> Iterator[Server]:
    """One of our own, until the block ends.

    Args:
        data: keeps its files, and goes on with those that are there; without it nothing stays.
        settings: over production's.

    Raises:
        SystemExit: it is not installed.
    """
    found = postgres.binaries()
    if found is None:
        raise SystemExit("PostgreSQL is not installed (on Debian and Ubuntu: apt install postgresql)")
    cluster = postgres.Cluster.start(found, _settings() | settings, data)
    try:
        yield Server(cluster)
    finally:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
