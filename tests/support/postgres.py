"""A PostgreSQL cluster of the test run's own, started from Debian's package where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from pydantic import SecretStr
from sqlalchemy import make_url

from pacs.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPEED = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "60",
}


def binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are; None without a server."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: path.parts[-3])
    return versions[-1].parent if versions else None


@dataclass
class Cluster:
    """A server that listens on a socket in `folder` alone; its files are in `data`."""

    folder: Path
    bin: Path
    data: Path
    settings: Mapping[str, str] = field(default_factory=lambda: _SPEED)

    @classmethod
    def start(cls, bin_path: Path, settings: Mapping[str, str] = _SPEED, data: Path | None = None) -> Cluster:
        """Start one, on what is in `data` of an earlier one; without `data` nothing of it stays."""
        folder = Path(tempfile.mkdtemp(prefix="clinicpacs-pg-"))
        cluster = cls(folder, bin_path, data or folder / "data", settings)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        is_new = not (cluster.data / "PG_VERSION").exists()
        if is_new:
            cluster._make_data()
        cluster.serve()
        if is_new:
            cluster._make_template()
        return cluster

    def serve(self) -> None:
        """Start the server; `subprocess.CalledProcessError` when it does not come up."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self.settings.items())
        self._run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-w",
            "-s",
            "-l",
            f"{self.folder}/log",
            "-o",
            f"-k {self.folder} {options}",
            "start",
        )

    @property
    def is_serving(self) -> bool:
        """Whether the server lives, able to serve or not."""
        try:
            self._run("pg_ctl", "-D", str(self.data), "status")
        except subprocess.CalledProcessError:
            return False
        return True

    def stop(self) -> None:
        kept = not self.data.is_relative_to(self.folder)
        self._run("pg_ctl", "-D", str(self.data), "-m", "fast" if kept else "immediate", "-w", "-s", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self, template: str = "migrated") -> str:
        """A migrated, empty catalog; its URL."""
        name = f"t{uuid.uuid4().hex}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def recreate_database(self, url: str) -> None:
        """An empty one in the place of one that was dropped: nothing is migrated."""
        self._sql(f"CREATE DATABASE {make_url(url).database} TEMPLATE template0 ENCODING 'UTF8'")

    def drop_database(self, url: str) -> None:
        name = make_url(url).database
        self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _make_data(self) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        )

    def _make_template(self) -> None:
        self._sql("CREATE DATABASE migrated")
        catalog = Catalog.connect(SecretStr(self.url("migrated")))
        catalog.migrate()
        catalog.close()

    def _sql(self, statement: str) -> None:
        with psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", timeout=180
        )
