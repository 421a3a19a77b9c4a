"""A platform in a temporary folder, and commands run against it."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner
from pydicom import dcmread
from sqlalchemy import select

from admin.cli import cli
from admin.directory.embedded import EmbeddedDirectory
from demo.archive import create_archive
from importer.files.failed import FailedFile, failed_files
from importer.files.report import Report, write_report
from importer.files.tree import make_folder
from pacs.archive import Part
from pacs.archive.dicomweb import DicomWebArchive
from pacs.catalog import clinics
from pacs.catalog.schema import audit
from pacs.ids import ClinicId, Uid
from pacs.settings import ArchiveSettings
from support.gateway import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result
    from sqlalchemy import Table

    from pacs.catalog import Catalog

NORTH, SOUTH = ClinicId("northside"), ClinicId("southside")
DAY = "2026-01-02"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Site:
    """Where everything is."""

    data: Path
    catalog: Catalog
    env: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def at(cls, data: Path, catalog: Catalog, database_url: str) -> Site:
        """Its archive is a port that nobody listens on, until `archive` starts one."""
        env: dict[str, str | None] = {
            "DATA_PATH": str(data),
            "DATABASE_URL": database_url,
            "ARCHIVE_URL": "http://127.0.0.1:9/dicom-web",
            "ARCHIVE_STABLE_AGE_SECONDS": "0",
            "IDENTITY_PATH": str(data / "identity.db"),
        }
        return cls(data, catalog, env)

    def run(self, *arguments: str, typed: str | None = None, **env: str | None) -> Result:
        """Run `clinicpacs` with these arguments; what no command foresaw is raised."""
        return CliRunner().invoke(
            cli,
            list(arguments),
            input=typed,
            env=self.env | env,
            prog_name="clinicpacs",
            catch_exceptions=False,
        )

    def done(self, *arguments: str, typed: str | None = None, **env: str | None) -> str:
        """The stdout of a command that must succeed."""
        result = self.run(*arguments, typed=typed, **env)
        assert result.exit_code == 0, result.output
        return result.stdout

    @property
    def directory(self) -> EmbeddedDirectory:
        return EmbeddedDirectory(self.data / "identity.db")

    @property
    def conflicts(self) -> list[str]:
        """The names under which `clinicpacs conflicts` lists them."""
        return re.findall(r"^([0-9a-f]{8}) ", self.done("conflicts"), re.MULTILINE)

    @property
    def conflict(self) -> str:
        """The name of the only one."""
        (name,) = self.conflicts
        return name

    @property
    def inbox(self) -> Path:
        return self.data / "inbox"

    @property
    def failed(self) -> Path:
        return self.data / "failed"

    def add_clinics(self) -> None:
        with self.catalog.write() as connection:
            clinics.add(connection, NORTH, "Northside", NOW)
            clinics.add(connection, SOUTH, "Southside", NOW)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.catalog.read() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def audited(self) -> list[tuple[str, str | None, bool]]:
        """Action, clinic and whether it happened, oldest first."""
        rows = sorted(self.rows(audit), key=lambda row: row["id"])
        return [(row["action"], row["clinic_id"], row["allowed"]) for row in rows]

    def fail(self, path: str, content: bytes, reason: str = "truncated", clinic: ClinicId = NORTH) -> None:
        """File something as the importer does that refused it."""
        *above, name = path.split("/")
        with make_folder(self.failed, (clinic, DAY, *above)) as descriptor:
            place = self.failed / clinic / DAY / path
            place.write_bytes(content)
            status = place.stat()
            uids = _uids(place)
            report = Report(reason, "A sentence.", NOW, status.st_size, status.st_mtime_ns, *uids)
            write_report(self.failed, clinic, descriptor, name, report)

    def failures(self, clinic: ClinicId = NORTH) -> dict[str, FailedFile]:
        return {file.path: file for file in failed_files(self.failed, clinic)}

    def in_inbox(self, clinic: ClinicId = NORTH) -> list[str]:
        folder = self.inbox / clinic
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    @contextmanager
    def archive(self) -> Iterator[DicomWebArchive]:
        """The embedded archive, running, and this platform's from now on."""
        with running(create_archive(self.data / "dicom")) as root:
            url = self.env["ARCHIVE_URL"] = f"{root}/dicom-web"
            with closing(DicomWebArchive(ArchiveSettings(archive_url=url))) as client:
                yield client


def store(archive: DicomWebArchive, *contents: bytes) -> None:
    """Store Part 10 files as they are."""
    answer = archive.store([Part([content], len(content)) for content in contents])
    assert len(answer.stored) == len(contents)


def _uids(place: Path) -> tuple[Uid | None, Uid | None, Uid | None]:
    if place.read_bytes()[128:132] != b"DICM":
        return None, None, None
    ds = dcmread(place, stop_before_pixels=True)
    return Uid(ds.StudyInstanceUID), Uid(ds.SeriesInstanceUID), Uid(ds.SOPInstanceUID)
