"""One delivery imported into a new, empty Orthanc, in one of the ways that are compared."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from bench.servers import importer, orthanc
from bench.servers.inbox_data import CLINIC, link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.servers.importer import Drained
    from bench.servers.postgresql import Server
    from bench.servers.stow import Prepared, Sent, Way
    from support.orthanc import Orthanc

_PEERS = Path(__file__).parents[1] / "peers"
_NO_FILTER = {'"LuaScripts": ["filter.lua"],': ""}


@dataclass
class Delivery:
    """Files, and the ways to bring them into an archive.

    Attributes:
        source: where they are.
        folder: for what is made on the way, on a disk.
        index: PostgreSQL for Orthanc's index and the importer's catalog; SQLite for both without.
        drained: what our importer took, each time.
        sent: what the client with ready requests took, each time.
    """

    source: Path
    folder: Path
    index: Server | None = None
    drained: list[Drained] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    @property
    def files(self) -> int:
        """How many there are."""
        return sum(path.is_file() for path in self.source.rglob("*"))

    @contextmanager
    def archive(self, **options: object) -> Iterator[Orthanc]:
        """A new, empty Orthanc, as patient as production's; what it stored is removed afterwards."""
        folder = self.folder / "archive"
        if self.index is not None:
            _drop_orthanc(self.index)
        options |= {"ORTHANC_STABLE_AGE": "60"}
        with orthanc.running(folder, self.index, **options) as server:  # type: ignore[arg-type]
            yield server
        shutil.rmtree(folder)

    def by_our_importer(self) -> float:
        """Files a second."""
        url = self.index.new_catalog() if self.index else ""
        with self.archive() as server, importer.running(self.folder / "ours", server, url) as ours:
            self.drained.append(ours.drain(self.source))
        return self.drained[-1].rate

    def by_ready_requests(self, prepared: Prepared, way: Way) -> float:
        """Files a second."""
        with self.archive() as server:
            self.sent.append(prepared.store(server, way))
        return self.sent[-1].rate

    def by_ready_posts(self, prepared: Prepared, connections: int) -> float:
        """Files a second, each by itself to Orthanc's own address for uploads, which our filter shuts."""
        with self.archive(changes=_NO_FILTER) as server:
            return prepared.post(server, connections).rate

    def by_script(self, batch: int) -> float:
        """Files a second of a plain import script; a whole folder in one request with 0."""
        with self.archive() as server:
            where = [server.dicomweb_url, server.username, server.password]
            return self._run("import_script.py", *where, CLINIC, str(batch))

    def by_posting_each(self) -> float:
        """Files a second of Orthanc's own sample script."""
        with self.archive(changes=_NO_FILTER) as server:
            return self._run("post_each.py", server.url, server.username, server.password)

    def _run(self, program: str, *arguments: str) -> float:
        inbox, processed = self.folder / "peer" / "inbox", self.folder / "peer" / "processed"
        files = link(self.source, inbox)
        command = [sys.executable, str(_PEERS / program), str(inbox), str(processed), *arguments]
        seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        shutil.rmtree(self.folder / "peer")
        return files / seconds


def _drop_orthanc(index: Server) -> None:
    with psycopg.connect(host=str(index.folder), user="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS orthanc WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS orthanc")
