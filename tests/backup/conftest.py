"""A shelf of backups, made of small real files by the very steps that the scripts run."""

from __future__ import annotations

import hashlib
import logging
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from admin.backup.images import relative
from admin.backup.shelf import Shelf
from admin.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

NAMES = tuple(f"clinicpacs-202601{day:02d}T030405Z" for day in range(1, 20))


def new_uuid() -> str:
    return str(uuid.uuid4())


def dump_of(table: str, columns: str, rows: list[str]) -> str:
    """A table as `pg_restore --data-only` writes it."""
    lines = "".join(f"{row}\n" for row in rows)
    return f"SET client_encoding = 'UTF8';\n\nCOPY public.{table} ({columns}) FROM stdin;\n{lines}\\.\n\n"


@dataclass
class Store:
    """An archive's folder, its index, and the backups of it."""

    root: Path
    index: dict[str, int] = field(default_factory=dict)

    @property
    def storage(self) -> Path:
        return self.root / "dicom"

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.root / "backups")

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        """`clinicpacs backup ...`; the folders are named unless they are not taken."""
        options = ["--backups", str(self.shelf.root)] if arguments[0] != "clock" else []
        if arguments[0] in {"copy", "agree", "put-back", "check-images"}:
            options += ["--storage", str(self.storage)]
        return CliRunner().invoke(
            cli, ["backup", *arguments, *options], input=typed, prog_name="clinicpacs", catch_exceptions=False
        )

    def run_plain(self, *arguments: str) -> str:
        """The output of a command that takes no folder."""
        return CliRunner().invoke(cli, ["backup", *arguments], catch_exceptions=False).output

    def done(self, *arguments: str, typed: str | None = None) -> str:
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        return result.output

    def store(self, content: bytes, name: str = "") -> str:
        """A file as Orthanc keeps it, known to the index."""
        name = name or new_uuid()
        place = self.storage / relative(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        self.index[name] = len(content)
        return name

    def delete(self, name: str) -> None:
        (self.storage / relative(name)).unlink()
        del self.index[name]

    def attached(self) -> str:
        rows = [f"{number}\t1\t{name}\t{size}\t0" for number, (name, size) in enumerate(self.index.items())]
        return dump_of("attachedfiles", "id, filetype, uuid, compressedsize, compressiontype", rows)

    def archive_dump(self) -> str:
        levels = dump_of("resources", "internalid, resourcetype, publicid", ["1\t0\ta", "2\t1\tb", "3\t3\tc"])
        return levels + self.attached()

    def back_up(
        self, name: str, *, with_images: bool = True, keep: int = 7, key: str = "", lacking: bool = False
    ) -> Path:
        """All steps in the scripts' order."""
        keys = ["--key", key] if key else []
        self.done("begin", name, *keys)
        partial = self.shelf.root / f"{name}.partial"
        for database in ("catalog", "orthanc", "keycloak"):
            (partial / f"{database}.dump").write_bytes(f"dump of {database} {name}".encode())
        (partial / "configuration.tar").write_bytes(b"settings")
        if with_images:
            self.done("copy", name, *keys)
            accept = ["--accept-missing"] if lacking else []
            self.done("agree", name, *keys, *accept, typed=self.attached())
        catalog = dump_of("alembic_version", "version_num", ["0001"])
        catalog += dump_of("studies", "study_uid, clinic_id", ["1.2\tnorthside", "1.3\tnorthside"])
        self.done("rows", name, "catalog", typed=catalog)
        self.done("rows", name, "orthanc", typed=self.archive_dump())
        self.done("rows", name, "keycloak", typed=dump_of("user_entity", "id, username", ["1\tnora"]))
        options = ["--include-dicom"] if with_images else []
        self.done(
            "seal",
            name,
            *("--keep", str(keep), "--postgres", "170011", "--paused-at", "2026-01-01T03:04:05.5+00:00"),
            *("--service", "orthanc=orthancteam/orthanc:26.8.1"),
            *options,
            *keys,
        )
        return self.shelf.root / name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "backups").mkdir()
    (tmp_path / "dicom").mkdir()
    return Store(tmp_path)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up this process's logs; the runner closes the stderr that they write to."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def tree(root: Path) -> dict[str, str]:
    """Digest by path of every file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def is_same_file(one: Path, other: Path) -> bool:
    return one.samefile(other)
