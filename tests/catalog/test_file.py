"""SQLite's file, removed and exchanged under a process that has it open."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text

from pacs.catalog import Catalog, CatalogUnavailableError, clinics
from pacs.catalog.schema import clinics as table
from pacs.ids import ClinicId
from support.site import NOW

if TYPE_CHECKING:
    from pathlib import Path

NAME = "only-catalog.db"
COUNTED = select(func.count().label("clinics")).select_from(table)


def add(catalog: Catalog, clinic: str = "northside") -> None:
    with catalog.write() as connection:
        clinics.add(connection, ClinicId(clinic), clinic, NOW)


def counted(catalog: Catalog) -> tuple[int | None, int]:
    """The clinics as a transaction sees them, and as a prepared question does."""
    with catalog.read() as connection:
        return connection.scalar(COUNTED), catalog.ask(catalog.prepare(COUNTED), {}).clinics


def exchange(folder: Path, new: Path) -> None:
    shutil.copyfile(new, folder / "new")
    # SQLite would replay what it finds in these, whose file ever it was.
    for name in (f"{NAME}-wal", f"{NAME}-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "new").rename(folder / NAME)


def test_a_removed_file_is_missed_and_not_made_anew(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    add(sqlite_catalog)
    assert counted(sqlite_catalog) == (1, 1)
    (tmp_path / NAME).unlink()
    with pytest.raises(CatalogUnavailableError, match="No such file"):
        add(sqlite_catalog, "southside")
    with pytest.raises(CatalogUnavailableError):
        sqlite_catalog.ask(sqlite_catalog.prepare(COUNTED), {})
    assert not (tmp_path / NAME).exists()


def test_an_exchanged_file_is_taken_up_by_all_who_ask(
    sqlite_catalog: Catalog, tmp_path: Path, sqlite_template: Path
) -> None:
    add(sqlite_catalog)
    assert counted(sqlite_catalog) == (1, 1)
    exchange(tmp_path, sqlite_template)
    assert sqlite_catalog.ask(sqlite_catalog.prepare(COUNTED), {}).clinics == 0
    add(sqlite_catalog, "southside")
    assert counted(sqlite_catalog) == (1, 1)


def test_a_new_file_beside_the_old_ones_wal_is_not_touched(
    sqlite_catalog: Catalog, tmp_path: Path, sqlite_template: Path
) -> None:
    """SQLite would take up what was written to the old one, and both would be damaged for good."""
    add(sqlite_catalog)
    assert (tmp_path / f"{NAME}-wal").stat().st_size
    shutil.copyfile(sqlite_template, tmp_path / "new")
    (tmp_path / "new").rename(tmp_path / NAME)
    for _ in range(2):
        with pytest.raises(CatalogUnavailableError, match="-wal and -shm belong to the old one"):
            add(sqlite_catalog, "southside")
    assert (tmp_path / NAME).read_bytes() == sqlite_template.read_bytes()


def test_a_new_file_with_a_wal_of_its_own_is_taken_up_when_it_is_ready(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    """As a command makes it in place of a lost one, while services look at every moment."""
    add(sqlite_catalog)
    for path in tmp_path.glob(f"{NAME}*"):
        path.unlink()
    with closing(Catalog.connect(SecretStr(f"sqlite:///{tmp_path / NAME}"))) as made:
        with made.write() as connection:
            connection.execute(text("CREATE TABLE first (step INTEGER)"))
        for _ in range(2):
            with pytest.raises(CatalogUnavailableError, match="not of this version"):
                counted(sqlite_catalog)
        made.migrate()
        add(made)
        assert (tmp_path / f"{NAME}-wal").stat().st_size
        assert counted(sqlite_catalog) == (1, 1)
        add(sqlite_catalog, "southside")
        assert counted(made) == (2, 2)


def test_what_was_written_into_an_exchanged_file_does_not_count(
    sqlite_catalog: Catalog, tmp_path: Path, sqlite_template: Path
) -> None:
    """Who was told that a study is theirs would send its images, and the new file knows nothing of it."""

    def write() -> None:
        with sqlite_catalog.write() as connection:
            clinics.add(connection, ClinicId("northside"), "Northside", NOW)
            exchange(tmp_path, sqlite_template)

    with pytest.raises(CatalogUnavailableError, match="in the middle"):
        write()
    assert counted(sqlite_catalog) == (0, 0)


def test_a_file_of_another_version_is_not_taken_up(
    sqlite_catalog: Catalog, tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "older.db")
    with closing(sqlite3.connect(tmp_path / "older.db")) as older, older:
        older.execute("UPDATE alembic_version SET version_num = '0002'")
    add(sqlite_catalog)
    exchange(tmp_path, tmp_path / "older.db")
    with pytest.raises(CatalogUnavailableError, match="not of this version"):
        add(sqlite_catalog, "southside")
    with pytest.raises(CatalogUnavailableError, match="not of this version"):
        counted(sqlite_catalog)
