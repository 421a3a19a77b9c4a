"""Two clinics' studies, imported in earnest, and a picture of the catalog: lost, rebuilt and compared."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from pydantic import SecretStr
from sqlalchemy import make_url, text

from demo.archive import create_archive
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import Catalog, engine
from pacs.catalog.schema import clinics, series, studies
from pacs.ids import Uid
from pacs.settings import ArchiveSettings
from support.corpus import SamplePatient, sample_uid
from support.gateway import running
from support.importing import NORTH, SOUTH, World, wait_until
from support.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from importer.daemon import Importer
    from support.postgres import Cluster

_OF_THE_MOMENT = {
    "revision", "marked", "refreshed", "settled", "settles_at", "reserved_at", "changed_at", "created_at",
}  # fmt: skip
ODD = SamplePatient("  ab 1\\x ", "Übung^Zoë", "ISO_IR 192")
HANDED_OVER = Uid(sample_uid("handed over", "study"))
Picture = dict[str, list[dict[str, Any]]]


def picture(catalog: Catalog) -> Picture:
    """All that must be as before: clinics, owners, series and what the list shows."""
    found = {}
    with catalog.read() as connection:
        for table in (clinics, studies, series):
            rows = connection.execute(table.select().order_by(*table.primary_key.columns)).mappings()
            found[table.name] = [
                {name: value for name, value in row.items() if name not in _OF_THE_MOMENT} for row in rows
            ]
    return found


@dataclass
class Held:
    """An archive of which one path does not answer before it is let go."""

    application: Any
    path: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if self.path and self.path in environ["PATH_INFO"]:
            self.asked.set()
            assert self.go_on.wait(60)
        return self.application(environ, start_response)


@dataclass
class Rebuilt:
    """A platform whose catalog can be lost. `cluster` is that of the catalog, None with SQLite."""

    site: Site
    world: World
    held: Held
    cluster: Cluster | None

    @property
    def catalog(self) -> Catalog:
        return self.world.catalog

    @property
    def file(self) -> Path:
        """The catalog, with SQLite."""
        return Path(make_url(self.world.database_url).database or "")

    def fill(self) -> Picture:
        """Both clinics import; a correction, a refusal and a study handed over among it. The picture then."""
        for clinic_id, name in ((NORTH, "Northside Clinic"), (SOUTH, "Southside Clinic")):
            self.site.done("add-clinic", clinic_id, name)
        self.site.done("add-clinic", "westside", "Westside Clinic, which has no study yet")
        self._import()
        self.site.done("transfer", HANDED_OVER, "--to", SOUTH)
        return picture(self.catalog)

    def _import(self) -> None:
        world = self.world
        for modality in ("CT", "MR", "SR"):
            world.drop(f"a/{modality}.dcm", seed="a", modality=modality, size=32, institution="Old Hospital")
        world.drop("odd/1.dcm", seed="odd", patient=ODD, size=32)
        world.drop("theirs/1.dcm", clinic=SOUTH, seed="b", patient="japanese", size=32)
        for modality in ("CT", "MR"):
            world.drop(f"c/{modality}.dcm", seed="handed over", modality=modality, patient="kazakh")
        with world.running() as importer:
            wait_until(lambda: importer.outcomes == {"stored": 7})
            world.drop("a/again/CT.dcm", seed="a", modality="CT", size=32, description="Corrected")
            world.drop("a/CT.dcm", clinic=SOUTH, seed="a", modality="CT", size=32)
            wait_until(lambda: importer.outcomes == {"stored": 8, "failed": 1})
            wait_until(lambda: self.is_clean(4))

    def is_clean(self, count: int) -> bool:
        """Whether so many studies are up to date in the list."""
        rows = self.world.rows(studies)
        return len(rows) == count and all(row["marked"] == row["refreshed"] for row in rows)

    @contextmanager
    def client(self) -> Iterator[DicomWebArchive]:
        client = DicomWebArchive(ArchiveSettings(archive_url=self.site.env["ARCHIVE_URL"] or ""))
        try:
            yield client
        finally:
            client.close()

    def lose(self) -> None:
        """The catalog's file or database is gone, and an empty one takes its place."""
        if self.cluster is None:
            for name in ("", "-wal", "-shm"):
                self.file.with_name(self.file.name + name).unlink(missing_ok=True)
        else:
            self.cluster.drop_database(self.world.database_url)
            self.cluster.recreate_database(self.world.database_url)
            self.site.done("migrate")

    def lose_to(self, version: str, known: list[tuple[str, str]]) -> None:
        """An older catalog is in its place, with these clinics and no study."""
        if self.cluster is None:
            self.lose()
        else:
            self.cluster.drop_database(self.world.database_url)
            self.cluster.recreate_database(self.world.database_url)
        older = Catalog.connect(SecretStr(self.world.database_url))
        config = engine._alembic()
        with older.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, version)
            for clinic_id, name in known:
                connection.execute(
                    text("INSERT INTO clinics (id, name, created_at) VALUES (:id, :name, '2026-01-01')"),
                    {"id": clinic_id, "name": name},
                )
        older.close()

    def reopen(self) -> None:
        """As a restart of all that has it open does."""
        self.world.catalog.close()
        self.look_anew()

    def look_anew(self) -> None:
        """By a connection of one's own; whoever runs keeps what it has open."""
        self.world.catalog = self.site.catalog = Catalog.open(SecretStr(self.world.database_url))

    @contextmanager
    def other_archive(self, folder: Path) -> Iterator[DicomWebArchive]:
        """Another, empty archive is in the place of this one."""
        right = self.site.env["ARCHIVE_URL"]
        with running(create_archive(folder)) as root:
            self.site.env["ARCHIVE_URL"] = f"{root}/dicom-web"
            with self.client() as client:
                yield client
        self.site.env["ARCHIVE_URL"] = right


@contextmanager
def running_platform(folder: Path, catalog: Catalog, url: str, cluster: Cluster | None) -> Iterator[Rebuilt]:
    """One with an archive, and nothing in it yet."""
    data = folder / "data"
    held = Held(create_archive(data / "dicom"))
    site = Site.at(data, catalog, url)
    with running(held) as root:
        site.env["ARCHIVE_URL"] = f"{root}/dicom-web"
        world = World(data, catalog, url, options={"archive_url": f"{root}/dicom-web"})
        yield Rebuilt(site, world, held, cluster)
        held.go_on.set()
        if world.catalog is not catalog:
            world.catalog.close()


def is_waiting_for_catalog(importer: Importer) -> Callable[[], bool]:
    """Whether the importer has noticed that it has none."""
    return lambda: not importer.health.catalog.up
