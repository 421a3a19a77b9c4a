"""`clinicpacs share`, `unshare` and `shares`: what the catalog knows afterwards, and what is refused."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from pacs.catalog import clinics
from pacs.catalog.schema import audit, studies, study_access
from support.filed import Referral, file_study
from support.site import NORTH, SOUTH, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.archive.dicomweb import DicomWebArchive

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ONE, OTHER = Referral("one"), Referral("other")
LATER, LATEST = "2999-12-30", "2999-12-31"


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    site.add_clinics()
    with site.archive() as running:
        file_study(site.catalog, running, NORTH, *ONE.files())
        yield running


def shared(site: Site) -> dict[tuple[str, str], date]:
    return {(row["study_uid"], row["clinic_id"]): row["until"] for row in site.rows(study_access)}


def test_a_study_is_shared_longer_listed_and_taken_back(site: Site, archive: DicomWebArchive) -> None:
    told = site.done("share", ONE.uid, "--with", SOUTH, "--until", LATER)
    assert told == f"study {ONE.uid} of northside is shared with southside to the end of {LATER}\n"
    assert shared(site) == {(ONE.uid, SOUTH): date(2999, 12, 30)}
    site.done("share", ONE.uid, "--with", SOUTH, "--until", LATEST)
    assert shared(site) == {(ONE.uid, SOUTH): date(2999, 12, 31)}
    for of in ([], [NORTH], [SOUTH], [ONE.uid]):
        assert LATEST in site.done("shares", *of)
    assert site.done("shares", OTHER.uid) == "nothing is shared\n"
    assert site.done("shares", OTHER.uid, "--json") == ""
    assert json.loads(site.done("shares", "--json")) == {
        "study_uid": ONE.uid, "owner": NORTH, "clinic_id": SOUTH, "until": LATEST, "over": False
    }  # fmt: skip
    told = site.done("unshare", ONE.uid, "--with", SOUTH)
    assert told == f"study {ONE.uid} is no longer shared with southside\n"
    assert shared(site) == {}
    assert site.run("unshare", ONE.uid).exit_code == 2
    assert site.audited() == [("share", NORTH, True), ("share", NORTH, True), ("unshare", NORTH, True)]
    rows = sorted(site.rows(audit), key=lambda row: row["id"])
    assert [row["detail"] for row in rows][1:] == [
        f"with southside until {LATEST}",
        f"with southside, was until {LATEST}",
    ]
    assert {row["study_uid"] for row in rows} == {ONE.uid}


@pytest.mark.config
@only_sqlite
def test_today_is_a_day_and_yesterday_is_over(site: Site, archive: DicomWebArchive) -> None:
    today = date.today()  # noqa: DTZ011 - in TZ, as shares are meant
    site.done("share", ONE.uid, "--with", SOUTH, "--until", f"{today}")
    refused = site.run("share", ONE.uid, "--with", SOUTH, "--until", f"{today - timedelta(days=1)}")
    assert (refused.exit_code, "is in the past" in refused.stderr) == (2, True)
    assert shared(site) == {(ONE.uid, SOUTH): today}


@pytest.mark.config
@only_sqlite
def test_what_is_over_is_listed_until_it_is_removed(site: Site, archive: DicomWebArchive) -> None:
    file_study(site.catalog, archive, NORTH, *OTHER.files())
    site.done("share", OTHER.uid, "--with", SOUTH, "--until", LATER)
    site.done("share", ONE.uid, "--with", SOUTH, "--until", LATER)
    with site.catalog.write() as connection:
        over = study_access.update().where(study_access.c.study_uid == ONE.uid)
        connection.execute(over.values(until=date(2020, 1, 1)))
    (line,) = [line for line in site.done("shares").splitlines() if ONE.uid in line]
    assert "2020-01-01" in line
    assert "over" in line
    assert "1 share removed" in site.done("unshare", "--expired")
    assert list(shared(site)) == [(OTHER.uid, SOUTH)]


@only_sqlite
def test_what_cannot_be_shared(site: Site, archive: DicomWebArchive) -> None:
    for study, clinic, why in (
        (OTHER.uid, SOUTH, "the catalog knows no study"),
        (ONE.uid, NORTH, "is northside's own"),
        (ONE.uid, "nowhere", "there is no clinic"),
        (ONE.uid, "South", "is not a clinic id"),
        ("1.2.x", SOUTH, "not a valid UID"),
    ):
        refused = site.run("share", study, "--with", clinic, "--until", LATER)
        assert (refused.exit_code, why in refused.stderr) == (2, True), refused.stderr
    assert shared(site) == {}
    assert site.audited() == []


@only_sqlite
def test_a_day_is_written_in_one_way(site: Site) -> None:
    for until in ("tomorrow", "2999-02-30", "29991231", "2999-12-31T00:00", ""):
        assert site.run("share", ONE.uid, "--with", SOUTH, "--until", until).exit_code == 2


@pytest.mark.config
@only_sqlite
def test_only_a_study_that_can_be_read_is_shared(site: Site, archive: DicomWebArchive) -> None:
    for state in ("provisional", "missing", "deleted"):
        with site.catalog.write() as connection:
            connection.execute(studies.update().values(state=state))
        assert site.run("share", ONE.uid, "--with", SOUTH, "--until", LATER).exit_code == 2
    assert shared(site) == {}


@pytest.mark.config
@only_sqlite
def test_nothing_is_shared_with_a_deactivated_clinic(site: Site, archive: DicomWebArchive) -> None:
    with site.catalog.write() as connection:
        clinics.deactivate(connection, SOUTH)
    refused = site.run("share", ONE.uid, "--with", SOUTH, "--until", LATER)
    assert (refused.exit_code, "is deactivated" in refused.stderr) == (2, True)
    assert shared(site) == {}
