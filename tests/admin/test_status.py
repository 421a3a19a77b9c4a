"""`clinicpacs status` tells what runs, waits and is stuck, and never a password."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from admin.inboxes import Waiting, waiting
from admin.terminal import shown
from pacs.catalog import Catalog, imports, ownership, transfers
from pacs.catalog.imports import ImportRow
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import Uid
from support.corpus import instance_bytes
from support.site import NORTH, NOW, SOUTH, Site, store

if TYPE_CHECKING:
    from pathlib import Path


def told(site: Site, exit_code: int = 0) -> dict[str, Any]:
    result = site.run("status", "--json")
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    found["clinics"] = {each["id"]: each for each in found["clinics"]}
    found["parts"] = {each["name"]: each for each in found["parts"]}
    return found


def reserve(site: Site, study: str, state: str, *, dirty: bool = False) -> None:
    with site.catalog.write() as connection:
        ownership.reserve(connection, Claim(NORTH, Uid(study), Uid(f"{study}.1"), "P"), NOW)
        values: dict[str, object] = {"state": state}
        if not dirty:
            values["refreshed"] = studies.c.marked
        connection.execute(studies.update().where(studies.c.study_uid == study).values(**values))


def test_studies_are_counted_by_clinic_and_state(site: Site) -> None:
    site.add_clinics()
    (site.inbox / NORTH).mkdir(parents=True)
    for study, state in {"1.1": "confirmed", "1.2": "confirmed", "1.3": "missing", "1.4": "deleted"}.items():
        reserve(site, study, state)
    reserve(site, "1.5", "provisional", dirty=True)
    with site.catalog.write() as connection:
        row = ImportRow(NORTH, "study", Uid("1.1"), "stored", 3, 300)
        imports.append(connection, [row], datetime(2026, 1, 1, tzinfo=UTC))
        imports.append(connection, [ImportRow(NORTH, "study", None, "failed", 1, 1)], NOW)
    with site.archive() as archive:
        store(archive, instance_bytes())
        found = told(site)
    north, south = found["clinics"][NORTH], found["clinics"][SOUTH]
    assert north["studies"] == {"confirmed": 2, "provisional": 1, "dirty": 1, "missing": 1}
    assert north["last_import"] == "2026-01-01T00:00:00+00:00"
    assert south["studies"] == {"confirmed": 0, "provisional": 0, "dirty": 0, "missing": 0}
    assert south["last_import"] is None
    assert all(part["is_up"] for part in found["parts"].values())


def test_what_was_begun_and_not_finished_is_told(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    site.inbox.mkdir(parents=True)
    for study in ("1.1", "1.2", "1.3"):
        reserve(site, study, "confirmed")
    with site.archive() as archive:
        store(archive, instance_bytes())
        assert told(site)["unfinished"] == {"transfers": [], "deletions": [], "since": None}
        with site.catalog.write() as connection:
            moved, buried = (transfers.owned(connection, Uid(study)) for study in ("1.1", "1.2"))
            assert moved
            assert buried
            transfers.begin(connection, moved, SOUTH, NOW)
            transfers.bury(connection, buried, NOW + timedelta(hours=1))
        found = told(site)
        text = site.done("status")
    assert found["unfinished"] == {"transfers": ["1.1"], "deletions": ["1.2"], "since": NOW.isoformat()}
    assert found["clinics"][NORTH]["studies"]["dirty"] == 0
    assert "1 study is on the way to another clinic" in text
    assert "clinicpacs delete 1.2" in text


def test_files_are_counted_as_the_importer_counts_them(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    inbox = site.inbox / NORTH
    (inbox / "study" / "deep").mkdir(parents=True)
    for name in ("study/a.dcm", "study/deep/b", "study/c.part", ".hidden", "Thumbs.db", "~d"):
        (inbox / name).write_bytes(b"x")
    (inbox / "upload.tmp").mkdir()
    (inbox / "upload.tmp" / "e").write_bytes(b"x")
    (inbox / "link").symlink_to(inbox / "study")
    (site.inbox / "nowhere").mkdir()
    (site.inbox / "stray.dcm").write_bytes(b"x")
    for path in ("one", "two", "three"):
        site.fail(path, b"no DICOM")
    site.done("dismiss", NORTH, "three")
    with site.archive():
        found = told(site)
        text = site.done("status")
    assert found["clinics"][NORTH]["waiting_files"] == 3
    assert 0 <= found["clinics"][NORTH]["oldest_waiting_seconds"] < 60
    assert found["clinics"][NORTH]["failed_files"] == 2
    assert found["strangers"] == {"unknown_folders": 1, "stray_files": 1}
    assert "1 folder and 1 file in the inbox belong to no clinic" in text


def test_the_oldest_is_the_one_that_came_first(tmp_path: Path) -> None:
    folder = tmp_path / NORTH
    folder.mkdir()
    (folder / "a").write_bytes(b"")
    first = (folder / "a").stat().st_ctime
    (folder / "b").write_bytes(b"")
    os.utime(folder / "b", (0, 0))
    assert waiting(tmp_path, NORTH) == Waiting(2, first)
    assert waiting(tmp_path, SOUTH) == Waiting()


def test_folders_deeper_than_the_importer_looks_hold_nothing_that_waits(tmp_path: Path) -> None:
    folder = tmp_path / NORTH
    for _ in range(105):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"")
    assert waiting(tmp_path, NORTH) == Waiting()


def test_what_cannot_be_reached_is_told_and_is_exit_1(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    sqlite_site.inbox.mkdir(parents=True)
    sqlite_site.env["IDENTITY_PATH"] = "/dev/null/identity.db"
    found = told(sqlite_site, exit_code=1)
    up = {name: part["is_up"] for name, part in found["parts"].items()}
    assert up == {"catalog": True, "inbox": True, "archive": False, "identity": False}
    assert "unreachable" in found["parts"]["archive"]["told"]
    result = sqlite_site.run("status")
    assert result.exit_code == 1
    assert "problems with: archive, identity" in result.stderr


def test_an_inbox_that_is_gone_is_told(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    with sqlite_site.archive():
        assert "No such file" in told(sqlite_site, exit_code=1)["parts"]["inbox"]["told"]


def test_before_the_first_clinic_no_inbox_is_no_fault(sqlite_site: Site) -> None:
    with sqlite_site.archive():
        inbox = told(sqlite_site)["parts"]["inbox"]
        assert (inbox["is_up"], inbox["told"].partition(": ")[2]) == (
            True,
            "not made yet, there is no clinic",
        )
        sqlite_site.inbox.parent.mkdir(exist_ok=True)
        sqlite_site.inbox.write_bytes(b"no folder")
        assert not told(sqlite_site, exit_code=1)["parts"]["inbox"]["is_up"]


def test_an_empty_archive_under_a_full_catalog_is_told(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    sqlite_site.inbox.mkdir(parents=True)
    reserve(sqlite_site, "1.1", "confirmed")
    with sqlite_site.archive():
        found = told(sqlite_site, exit_code=1)
    assert "lists no study, the catalog knows 1" in found["parts"]["archive"]["told"]


def test_before_the_first_clinic_nothing_is_wrong(sqlite_site: Site) -> None:
    with sqlite_site.archive():
        assert "clinicpacs add-clinic" in sqlite_site.done("status")


def test_the_catalogs_password_is_not_shown(sqlite_site: Site) -> None:
    url = "postgresql+psycopg://pacs:hush-hush@127.0.0.1:9/pacs"
    for command in ("status", "audit", "migrate"):
        result = sqlite_site.run(command, DATABASE_URL=url)
        assert result.exit_code == 2
        assert "hush" not in result.output + result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["\x1b[2J", "\udcff", "\u202e", "a\nb"])
def test_names_from_outside_do_not_steer_the_terminal(sqlite_site: Site, name: str) -> None:
    sqlite_site.add_clinics()
    sqlite_site.fail(f"study/{name}", b"no DICOM")
    told_by_dismiss = sqlite_site.done("dismiss", NORTH, "--yes")
    assert name not in told_by_dismiss
    assert told_by_dismiss.count("\n") == 2


def test_what_is_shown_is_printable() -> None:
    assert shown("a\x1b[2J\nb\u202ec\udcff Әсем") == "a\\x1b[2J\\nb\\u202ec\\udcff Әсем"


def test_an_unmigrated_postgresql_catalog_is_one_sentence(
    sqlite_site: Site, request: pytest.FixtureRequest
) -> None:
    cluster = request.getfixturevalue("postgres_cluster")
    url = cluster.new_database(template="template0")
    try:
        refused = sqlite_site.run("status", DATABASE_URL=url)
        assert refused.exit_code == 2
        assert "run `clinicpacs migrate`" in refused.stderr
        for _ in range(2):
            assert "of this version" in sqlite_site.done("migrate", DATABASE_URL=url)
        Catalog.open(SecretStr(url)).close()
    finally:
        cluster.drop_database(url)
