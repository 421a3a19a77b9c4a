"""Every opened study is on record before its first byte; refusals are counted."""

from __future__ import annotations

import sqlite3
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from gateway.app import create_app
from gateway.audit import gathered
from gateway.audit.denied import Denials
from gateway.audit.gathered import EXACT_MAX
from gateway.audit.searched import Searches
from pacs.catalog.schema import revocations, study_access
from pacs.ids import Uid
from support.gateway import CLIP, MINE, NORTH, SOUTH, THEIRS, UNOWNED, World, running

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pacs.catalog import Catalog
    from support.gateway import SampleArchive

METADATA = f"/studies/{MINE.study}/metadata"


def rows(world: World) -> list[tuple[Any, ...]]:
    keys = ("action", "allowed", "subject", "username", "clinic_id", "study_uid", "source", "count")
    return [tuple(row[key] for key in keys) for row in world.audited()]


def test_an_opened_study_is_on_record_once_in_fifteen_minutes(any_catalog_world: World) -> None:
    world = any_catalog_world
    paths = (METADATA, f"/studies/{MINE.study}/series", f"{MINE.path()}/frames/1", f"{MINE.path()}/rendered")
    for path in paths:
        assert world.get(path).status_code == 200
    expected = ("study-opened", True, "subject-of-nora", "nora", NORTH, MINE.study, "127.0.0.1", 1)
    assert rows(world) == [expected]
    assert world.audited()[0]["at"] == world.clock.now()
    world.clock.turn(15 * 60 + 1)
    world.get(METADATA, world.issuer.token())
    assert rows(world) == [expected] * 2
    world.get(f"/studies/{CLIP.study}/metadata")
    world.get(METADATA, world.rita)
    assert [(row[2], row[5]) for row in rows(world)[2:]] == [
        ("subject-of-nora", CLIP.study),
        ("subject-of-rita", MINE.study),
    ]


def test_listing_studies_opens_none(world: World) -> None:
    world.get("/studies")
    world.get("/healthz")
    assert rows(world) == []


def searched(world: World) -> list[tuple[Any, ...]]:
    world.app.extensions["gateway"].searches.flush()
    keys = ("action", "allowed", "subject", "username", "study_uid", "source", "detail", "count")
    return [tuple(row[key] for key in keys) for row in world.audited() if row["action"] == "studies-searched"]


def test_searches_are_added_up_to_one_row_for_each_query(any_catalog_world: World) -> None:
    world = any_catalog_world
    for query in ("PatientName=Sample%5E*&limit=101", "", "PatientName=Sample%5E*&limit=101"):
        assert world.get(f"/studies?{query}").status_code == 200
    world.get("/studies", world.sam)
    # Refused before anything was searched for.
    assert world.get("/studies?limit=x").status_code == 400
    of_nora = ("studies-searched", True, "subject-of-nora", "nora", None, "127.0.0.1")
    assert searched(world) == [
        (*of_nora, "PatientName=Sample^*&limit=101", 2),
        (*of_nora, "", 1),
        ("studies-searched", True, "subject-of-sam", "sam", None, "127.0.0.1", "", 1),
    ]
    # Added up anew from here on.
    world.get("/studies")
    assert searched(world)[3:] == [(*of_nora, "", 1)]


def test_a_search_is_one_line_of_text_whatever_it_holds(any_catalog_world: World) -> None:
    world = any_catalog_world
    world.get(f"/studies?x%00%0ay=%E2%80%A8&StudyDescription={'%C3%A9' * 600}")
    ((*_, detail, count),) = searched(world)
    assert detail.startswith("x??y=?&StudyDescription=éé")
    assert (len(detail), count) == (500, 1)


def test_a_search_writes_nothing_before_it_is_answered(world: World) -> None:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(world.catalog._engine, "before_cursor_execute", note)
    assert world.get("/studies").status_code == 200
    # It asks by connections of its own, which no transaction is on.
    assert statements == []
    world.app.extensions["gateway"].searches.close()
    event.remove(world.catalog._engine, "before_cursor_execute", note)
    assert [each for each in statements if "audit" in each]


def someone(name: str) -> Any:
    return type("SomeCaller", (), {"subject": name, "username": name})


def test_a_flood_of_searches_takes_bounded_memory_and_blanks_nobody_elses(world: World) -> None:
    searches = Searches(world.catalog, world.clock)
    for number in range(EXACT_MAX + 500):
        searches.record(someone("mallory"), [("PatientID", str(number))], "198.51.100.7")
    searches.record(someone("nora"), [("PatientID", "7")], "203.0.113.9")
    assert len(searches._tallies) == EXACT_MAX + 2
    searches.close()
    written = searched(world)
    assert len(written) == EXACT_MAX + 2
    assert written[-2][-3:] == ("198.51.100.7", "several searches", 500)
    assert written[-1][2:] == ("nora", "nora", None, "203.0.113.9", "PatientID=7", 1)


def test_no_number_of_addresses_or_subjects_takes_more_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered, "_EVENTS_MAX", 500)
    searches = Searches(world.catalog, world.clock)
    for number in range(600):
        searches.record(someone("mallory"), [("PatientID", str(number))], f"2001:db8::{number:x}")
    assert len(searches._tallies) == EXACT_MAX + 100 + 1
    for number in range(600):
        searches.record(someone(f"mallory-{number}"), [("PatientID", "7")], "203.0.113.9")
    assert len(searches._tallies) == 500 + 1
    searches.flush()
    assert not searches._of_subject
    written = searched(world)
    assert sum(row[-1] for row in written) == 1200
    several = [row for row in written if row[2] == "(several)"]
    assert [row[-3:] for row in several] == [("", "several searches", 501)]


def test_the_searches_of_the_last_minute_are_written_at_the_end(world: World) -> None:
    world.get("/studies?PatientID=7")
    world.app.extensions["gateway"].close()
    assert [(row["action"], row["detail"]) for row in world.audited()] == [
        ("studies-searched", "PatientID=7")
    ]


def test_an_unowned_study_is_on_record_without_a_clinic(world: World) -> None:
    world.get(f"/studies/{UNOWNED.study}/metadata", world.rita)
    assert [(row[2], row[4], row[5]) for row in rows(world)] == [("subject-of-rita", None, UNOWNED.study)]


def test_a_share_is_on_record_under_the_owner(world: World) -> None:
    world.insert(study_access, study_uid=THEIRS.study, clinic_id=NORTH, until=world.clock.today())
    world.get(f"/studies/{THEIRS.study}/metadata")
    assert rows(world)[0][4:6] == (SOUTH, THEIRS.study)


def test_the_record_is_durable_before_the_archive_is_asked(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    world = make_world(sqlite_catalog, embedded_archive)
    seen: list[int] = []
    upstream = world.app.extensions["gateway"].upstream
    ask = upstream.open

    def watched(*arguments: str) -> Any:
        seen.append(len(world.audited()))
        return ask(*arguments)

    upstream.open = watched
    assert world.get(METADATA).status_code == 200
    assert seen == [1]


def test_two_processes_write_one_row(any_catalog_world: World) -> None:
    world = any_catalog_world
    other = create_app(world.settings, catalog=world.catalog, clock=world.clock)
    token = world.issuer.token()
    applications = [world.app, other] * 6
    start = threading.Barrier(len(applications))

    def ask(application: Any) -> None:
        start.wait(10)
        answer = application.test_client().get(
            f"/dicom-web{METADATA}", headers={"Authorization": f"Bearer {token}"}
        )
        statuses.append(answer.status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=ask, args=(each,)) for each in applications]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [200] * len(applications)
    assert len(world.audited()) == 1
    other.extensions["gateway"].upstream.close()


def test_a_row_of_another_process_counts_for_its_own_fifteen_minutes_only(world: World) -> None:
    other = create_app(world.settings, catalog=world.catalog, clock=world.clock)
    world.get(METADATA)
    for passed, number in ((14 * 60, 1), (61, 2)):
        world.clock.turn(passed)
        token = world.issuer.token()
        answer = other.test_client().get(
            f"/dicom-web{METADATA}", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 200
        assert len(world.audited()) == number
    other.extensions["gateway"].upstream.close()


def test_a_row_of_a_clock_that_was_set_back_since_counts_for_nothing(world: World) -> None:
    other = create_app(world.settings, catalog=world.catalog, clock=world.clock)
    world.get(METADATA)
    world.clock.start -= timedelta(days=400)
    token = world.issuer.token()
    other.test_client().get(f"/dicom-web{METADATA}", headers={"Authorization": f"Bearer {token}"})
    assert len(world.audited()) == 2
    other.extensions["gateway"].upstream.close()


def test_what_cannot_be_put_on_record_is_not_shown(world: World) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO audit"):
            raise sqlite3.OperationalError("database or disk is full")

    event.listen(world.catalog._engine, "before_cursor_execute", refuse)
    try:
        answer = world.get(METADATA)
        assert answer.status_code == 503
        assert answer.content_type == "application/problem+json"
    finally:
        event.remove(world.catalog._engine, "before_cursor_execute", refuse)
    assert world.get(METADATA).status_code == 200


def test_refusals_are_added_up_to_one_row_each(any_catalog_world: World) -> None:
    world = any_catalog_world
    for _ in range(5):
        world.get(f"/studies/{THEIRS.study}/metadata")
    world.get("/studies/1.2.3/metadata")
    world.get(f"/studies/{MINE.study}/series/{THEIRS.series()}/metadata")
    assert sorted(rows(world), key=str) == sorted(
        [
            ("study-opened", False, "subject-of-nora", "nora", SOUTH, THEIRS.study, "127.0.0.1", 5),
            ("study-opened", False, "subject-of-nora", "nora", None, "1.2.3", "127.0.0.1", 1),
            ("study-opened", False, "subject-of-nora", "nora", NORTH, MINE.study, "127.0.0.1", 1),
        ],
        key=str,
    )
    assert len(world.audited()) == 3


def test_who_has_no_clinic_or_a_revoked_token_is_on_record_too(any_catalog_world: World) -> None:
    world = any_catalog_world
    world.insert(
        revocations, subject="subject-of-nora", issued_before=world.clock.now() + timedelta(seconds=2)
    )
    for token, status in ((world.issuer.token(), 401), (world.issuer.token("noel", groups=[]), 403)):
        for path in (METADATA, "/studies?PatientID=7", "/studies"):
            assert world.get(path, token).status_code == status
    assert rows(world) == [
        (action, False, f"subject-of-{who}", who, None, study, "127.0.0.1", count)
        for who in ("nora", "noel")
        for action, study, count in (("study-opened", MINE.study, 1), ("studies-searched", None, 2))
    ]


def test_what_is_done_from_another_address_is_not_booked_to_the_first(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    world = make_world(sqlite_catalog, embedded_archive, trusted_proxies="127.0.0.1")
    for address in ("198.51.100.7", "203.0.113.9", "203.0.113.9"):
        world.get(f"/studies/{THEIRS.study}/metadata", X_Forwarded_For=address)
        world.get("/studies?PatientID=7", X_Forwarded_For=address)
    refused = [(row["source"], row["count"]) for row in world.audited()]
    assert sorted(refused) == [("198.51.100.7", 1), ("203.0.113.9", 2)]
    assert [row[-3:] for row in searched(world)] == [
        ("198.51.100.7", "PatientID=7", 1),
        ("203.0.113.9", "PatientID=7", 2),
    ]


def test_a_flood_of_refusals_takes_bounded_memory(world: World) -> None:
    denials = Denials(world.catalog, world.clock)
    for number in range(EXACT_MAX + 500):
        denials.record(someone("mallory"), Uid(f"1.2.{number}"), None, f"198.51.100.{number % 2}")
    denials.record(someone("nora"), Uid("1.2"), None, "203.0.113.9")
    assert len(denials._tallies) == EXACT_MAX + 2 + 1
    denials.close()
    written = world.audited()
    assert sum(row["count"] for row in written) == EXACT_MAX + 501
    assert sorted(
        (row["source"], row["detail"], row["count"]) for row in written if row["study_uid"] is None
    ) == [("198.51.100.0", "several studies", 250), ("198.51.100.1", "several studies", 250)]
    assert [row["study_uid"] for row in written if row["subject"] == "nora"] == ["1.2"]


def test_refusals_that_cannot_be_written_are_kept_and_written_at_the_end(world: World) -> None:
    world.get(f"/studies/{THEIRS.study}/metadata")
    engine = world.catalog._engine

    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("locked")

    event.listen(engine, "before_cursor_execute", refuse)
    world.app.extensions["gateway"].denials.flush()
    event.remove(engine, "before_cursor_execute", refuse)
    world.clock.turn(timedelta(minutes=1).total_seconds())
    world.get(f"/studies/{THEIRS.study}/metadata", world.issuer.token())
    world.app.extensions["gateway"].denials.close()
    with world.catalog.read() as connection:
        counts = connection.exec_driver_sql("SELECT count FROM audit").scalars().all()
    assert counts == [2]


def test_the_source_is_the_proxys_word_when_it_is_trusted(
    sqlite_catalog: Catalog, make_world: Callable[..., World], embedded_archive: SampleArchive
) -> None:
    world = make_world(sqlite_catalog, embedded_archive, trusted_proxies="127.0.0.1")
    assert world.get(METADATA, X_Forwarded_For="6.6.6.6, 198.51.100.7").status_code == 200
    assert rows(world)[0][6] == "198.51.100.7"


def test_the_record_holds_no_patient_data(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with running(world.app):
        world.get(f"/studies/{MINE.study}/series?PatientName=Sample^Aurora")
    assert "Aurora" not in str(world.audited())
