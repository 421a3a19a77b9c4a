"""Adding a clinic does catalog, folder and group, says what it did, and can be repeated."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from admin.directory import ClinicGroup
from pacs.catalog import clinics
from pacs.ids import ClinicId

if TYPE_CHECKING:
    from support.site import Site


def names(site: Site) -> dict[str, tuple[str, bool]]:
    with site.catalog.read() as connection:
        return {each.id: (each.name, each.active) for each in clinics.all_clinics(connection)}


def test_a_clinic_gets_row_folder_group_and_audit(site: Site) -> None:
    told = site.done("add-clinic", "northside", "Northside  Clinic")
    assert names(site) == {"northside": ("Northside Clinic", True)}
    folder = site.data / "inbox" / "northside"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert site.directory.clinics() == [ClinicGroup(ClinicId("northside"), "Northside Clinic")]
    assert site.audited() == [("add-clinic", "northside", True)]
    assert "added to the catalog" in told
    assert "group /clinics/northside made" in told


def test_it_can_be_repeated_and_renames(site: Site) -> None:
    site.done("add-clinic", "northside", "Northside")
    folder = site.data / "inbox" / "northside"
    folder.chmod(0o700)
    assert "was in the catalog" in site.done("add-clinic", "northside", "Northside")
    assert "renamed from 'Northside' to 'North Side'" in site.done("add-clinic", "northside", "North Side")
    assert names(site) == {"northside": ("North Side", True)}
    assert site.directory.clinics() == [ClinicGroup(ClinicId("northside"), "North Side")]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770, "a folder that was there gets its rights back"


def test_without_an_identity_provider_it_does_the_rest_and_says_so(sqlite_site: Site) -> None:
    told = sqlite_site.done("add-clinic", "northside", "Northside", IDENTITY_PATH="")
    assert "no identity provider is configured" in told
    assert names(sqlite_site) == {"northside": ("Northside", True)}
    assert (sqlite_site.data / "inbox" / "northside").is_dir()


@pytest.mark.parametrize("clinic_id", ["Northside", "../up", "", "north side", "клиника", "a" * 64])
def test_what_can_be_no_clinic_id_is_one_sentence(sqlite_site: Site, clinic_id: str) -> None:
    result = sqlite_site.run("add-clinic", clinic_id, "Northside")
    assert result.exit_code == 2
    assert "is not a clinic id" in result.stderr
    assert "Traceback" not in result.output
    assert names(sqlite_site) == {}


@pytest.mark.parametrize("name", ["", "   ", "North\x1b[2Jside", "North\0side", "x" * 121])
def test_a_name_that_no_person_reads_is_refused(sqlite_site: Site, name: str) -> None:
    assert sqlite_site.run("add-clinic", "northside", name).exit_code == 2
    assert names(sqlite_site) == {}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_the_folders_place_is_one_sentence(sqlite_site: Site, kind: str) -> None:
    inbox = sqlite_site.data / "inbox"
    inbox.mkdir(parents=True)
    if kind == "file":
        (inbox / "northside").write_text("")
    else:
        (inbox / "northside").symlink_to(sqlite_site.data)
    result = sqlite_site.run("add-clinic", "northside", "Northside")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr
    assert names(sqlite_site) == {}


def test_an_inbox_that_cannot_be_written_is_one_sentence(sqlite_site: Site) -> None:
    (sqlite_site.data).mkdir()
    (sqlite_site.data / "inbox").write_text("no folder at all")
    result = sqlite_site.run("add-clinic", "northside", "Northside")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_an_unusable_identity_provider_leaves_a_rerun_to_finish(sqlite_site: Site) -> None:
    bad = sqlite_site.data / "identity.db"
    bad.mkdir(parents=True)
    result = sqlite_site.run("add-clinic", "northside", "Northside")
    assert result.exit_code == 2
    assert "run the same command again" in result.stderr
    assert names(sqlite_site) == {"northside": ("Northside", True)}
    bad.rmdir()
    assert "group /clinics/northside made" in sqlite_site.done("add-clinic", "northside", "Northside")


def test_a_clinic_is_deactivated_and_comes_back(site: Site) -> None:
    site.done("add-clinic", "northside", "Northside")
    site.done("deactivate-clinic", "northside")
    assert names(site) == {"northside": ("Northside", False)}
    assert (site.data / "inbox" / "northside").is_dir()
    assert "active again" in site.done("add-clinic", "northside", "Northside")
    assert names(site) == {"northside": ("Northside", True)}
    assert [row[0] for row in site.audited()] == ["add-clinic", "deactivate-clinic", "add-clinic"]


def test_an_unknown_clinic_is_not_deactivated(sqlite_site: Site) -> None:
    result = sqlite_site.run("deactivate-clinic", "northside")
    assert result.exit_code == 2
    assert "there is no clinic 'northside'" in result.stderr
    assert sqlite_site.audited() == []


def test_a_catalog_of_a_newer_version_is_one_sentence_and_leaves_nothing(site: Site) -> None:
    with site.catalog.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    result = site.run("add-clinic", "northside", "Northside")
    assert result.exit_code == 2
    assert "newer version" in result.stderr
    assert "Traceback" not in result.output
    assert not (site.data / "inbox").exists()


def test_the_audit_names_the_account_that_runs_the_command(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    sqlite_site.done("add-clinic", "northside", "Northside")
    from admin.platform import operating_system_user  # noqa: PLC0415
    from pacs.catalog.schema import audit  # noqa: PLC0415

    assert sqlite_site.rows(audit)[0]["subject"] == f"os:{operating_system_user()}"
    assert operating_system_user() != "somebody-else" or os.getuid() != 0
