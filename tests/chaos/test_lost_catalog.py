"""A lost catalog comes back from archive and identity provider, and nobody gets what is another's."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from datetime import date
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from pacs.catalog import Catalog, CatalogUnavailableError, ownership, sharing
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies
from pacs.ids import Uid
from support.corpus import instance_bytes, sample_uid
from support.dicom_files import tag_bytes
from support.importer_process import run
from support.importing import NORTH, SOUTH, observe, wait_until
from support.rebuilt import HANDED_OVER, Rebuilt, is_waiting_for_catalog, picture, running_platform
from support.site import NOW, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STUDY = Uid(sample_uid("a", "study"))
PAGE = 4096


@pytest.fixture
def platform(
    request: pytest.FixtureRequest, tmp_path: Path, catalog: Catalog, database_url: str
) -> Iterator[Rebuilt]:
    cluster = None if catalog.is_sqlite else request.getfixturevalue("postgres_cluster")
    with running_platform(tmp_path, catalog, database_url, cluster) as made:
        yield made


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_catalog: Catalog) -> Iterator[Rebuilt]:
    url = f"sqlite:///{tmp_path / 'only-catalog.db'}"
    with running_platform(tmp_path, sqlite_catalog, url, None) as made:
        yield made


def owners(platform: Rebuilt) -> dict[str, str]:
    return {row["study_uid"]: row["clinic_id"] for row in platform.world.rows(studies)}


def test_a_catalog_that_was_deleted_is_rebuilt_as_it_was(platform: Rebuilt) -> None:
    before = platform.fill()
    assert {len(before["clinics"]), len(before["studies"]) - 1} == {3}
    platform.lose()
    platform.reopen()
    told = platform.site.done("reindex")
    assert "4 got their owner back (northside, southside)" in told
    assert picture(platform.catalog) == before
    assert owners(platform)[HANDED_OVER] == SOUTH
    # What was refused is told again, with the words of before.
    assert "study-owned-by-another-clinic" in platform.site.done("conflicts", SOUTH)


def test_a_share_is_not_made_up(on_sqlite: Rebuilt) -> None:
    on_sqlite.fill()
    with on_sqlite.catalog.write() as connection:
        sharing.share(connection, STUDY, SOUTH, date(2999, 1, 1))
    on_sqlite.lose()
    on_sqlite.reopen()
    on_sqlite.site.done("reindex")
    with on_sqlite.catalog.read() as connection:
        assert sharing.shares(connection) == []


def test_the_importer_takes_nothing_in_before_every_owner_is_back(platform: Rebuilt) -> None:
    """The other clinic's file of a study that is not restored yet waits, and is refused in the end."""
    before = platform.fill()
    stolen = instance_bytes(seed="a", instance_number=2)
    with platform.world.running() as importer:
        told: list[bool] = []
        observe(importer.health.catalog, told.append)
        platform.lose()
        # A server has the new one ready so soon that the importer may be back at work already.
        wait_until(lambda: False in told or not platform.cluster)
        platform.held.path = f"/studies/{STUDY}/series/"
        reindex = threading.Thread(target=platform.site.done, args=("reindex",))
        reindex.start()
        assert platform.held.asked.wait(30)
        platform.world.drop("stolen/2.dcm", stolen, clinic=SOUTH)
        platform.look_anew()
        wait_until(lambda: HANDED_OVER in owners(platform))
        looked = importer.full_looks
        wait_until(lambda: importer.full_looks > looked + 3)
        assert STUDY not in owners(platform)
        assert "stolen/2.dcm" in platform.world.waiting(SOUTH)
        platform.held.go_on.set()
        reindex.join(30)
        wait_until(
            lambda: platform.world.reasons(SOUTH).get("stolen/2.dcm") == "study-owned-by-another-clinic"
        )
        wait_until(lambda: platform.is_clean(4))
    assert picture(platform.catalog) == before


def test_a_rebuilding_that_was_broken_off_is_gone_on_with(platform: Rebuilt, tmp_path: Path) -> None:
    before = platform.fill()
    platform.lose()
    platform.reopen()
    with platform.other_archive(tmp_path / "empty"):
        result = platform.site.run("reindex")
    assert result.exit_code == 1
    assert "no clinic is served" in result.stderr
    assert {row["active"] for row in picture(platform.catalog)["clinics"]} == {False}
    assert "3 clinics back" in platform.site.done("reindex")
    assert picture(platform.catalog) == before


def test_a_file_that_is_removed_under_the_importer_takes_no_owner_with_it(on_sqlite: Rebuilt) -> None:
    """An open file goes on without its name: what is written there is lost."""
    before = on_sqlite.fill()
    with on_sqlite.world.running() as importer:
        on_sqlite.lose()
        content = on_sqlite.world.drop("new/1.dcm", seed="new", size=32)
        wait_until(is_waiting_for_catalog(importer))
        assert not on_sqlite.file.exists()
        assert on_sqlite.world.waiting() == {"new/1.dcm": content}
        on_sqlite.site.done("reindex")
        assert picture(on_sqlite.catalog) == before
        wait_until(lambda: on_sqlite.is_clean(5))
        assert on_sqlite.world.waiting() == {}
    assert owners(on_sqlite)[sample_uid("new", "study")] == NORTH


def damaged(whole: bytes, number: int, page: bytes) -> bytes:
    """A file with another page in the place of the one of that number, from 1 as SQLite counts."""
    return whole[: PAGE * (number - 1)] + page + whole[PAGE * number :]


@pytest.mark.parametrize(("table", "told"), [("", "SQLITE_NOTADB"), ("alembic_version", "SQLITE_CORRUPT")])
def test_a_damaged_file_is_refused_and_rebuilt_once_it_is_put_aside(
    on_sqlite: Rebuilt, tmp_path: Path, table: str, told: str
) -> None:
    before = on_sqlite.fill()
    content = on_sqlite.world.drop("new/1.dcm", seed="new", size=32)
    with on_sqlite.catalog.read() as connection:
        root = text("SELECT rootpage FROM sqlite_master WHERE name = :table")
        number = connection.scalar(root, {"table": table}) or 1
    on_sqlite.catalog.close()
    on_sqlite.file.write_bytes(damaged(on_sqlite.file.read_bytes(), number, bytes(PAGE)))
    result = on_sqlite.site.run("reindex")
    assert result.exit_code == 2
    assert told in result.stderr
    archive_url = on_sqlite.site.env["ARCHIVE_URL"] or ""
    code, said = run(on_sqlite.world, "--once", ARCHIVE_URL=archive_url)
    assert code == 2
    assert told in said
    assert on_sqlite.world.waiting() == {"new/1.dcm": content}
    for path in tmp_path.glob("only-catalog.db*"):
        path.rename(path.with_name(f"damaged-{path.name}"))
    on_sqlite.reopen()
    on_sqlite.site.done("reindex")
    assert picture(on_sqlite.catalog) == before


def test_whatever_page_is_damaged_no_study_changes_hands(on_sqlite: Rebuilt) -> None:
    """The other clinic is refused its owner's study, or nothing can be said."""
    on_sqlite.fill()
    on_sqlite.catalog.close()
    whole = on_sqlite.file.read_bytes()
    claim = Claim(SOUTH, STUDY, Uid(sample_uid("a", "series")), "SAMPLE-1")
    said = set()
    for number in range(1, len(whole) // PAGE + 1):
        for page in (bytes(PAGE), random.Random(number).randbytes(PAGE)):
            for name in ("-wal", "-shm"):
                on_sqlite.file.with_name(on_sqlite.file.name + name).unlink(missing_ok=True)
            on_sqlite.file.write_bytes(damaged(whole, number, page))
            try:
                with (
                    closing(Catalog.open(SecretStr(on_sqlite.world.database_url))) as catalog,
                    catalog.write() as connection,
                ):
                    said.add(ownership.reserve(connection, claim, NOW))
            except CatalogUnavailableError as error:
                said.add(str(error).rpartition(" ")[2])
    assert said == {ownership.Refusal.STUDY_OWNED, "SQLITE_NOTADB", "SQLITE_CORRUPT"}


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_an_older_catalog_is_brought_up_and_filled(platform: Rebuilt, version: str) -> None:
    """As of a backup from before: it has the clinics and no study since."""
    before = platform.fill()
    platform.lose_to(version, [(row["id"], row["name"]) for row in before["clinics"]])
    if platform.cluster:
        result = platform.site.run("reindex")
        assert (result.exit_code, "clinicpacs migrate" in result.stderr) == (2, True)
        platform.site.done("migrate")
    platform.site.done("reindex")
    platform.reopen()
    assert picture(platform.catalog) == before


def test_a_newer_catalog_is_refused_and_left_as_it_is(platform: Rebuilt) -> None:
    before = platform.fill()
    with platform.catalog.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    result = platform.site.run("reindex")
    assert result.exit_code == 2
    assert "newer version of clinicpacs" in result.stderr
    assert picture(platform.catalog) == before


def test_the_archive_of_another_installation_takes_no_owner_away_and_gives_none(
    platform: Rebuilt, tmp_path: Path
) -> None:
    """It has studies of nobody, of clinics unknown here, and one of ours under another owner's name."""
    before = platform.fill()
    with platform.other_archive(tmp_path / "other") as archive:
        store(archive, instance_bytes(seed="of nobody"))
        store(archive, tag_bytes(instance_bytes(seed="elsewhere"), type(NORTH)("eastside")))
        store(archive, tag_bytes(instance_bytes(seed="a"), SOUTH))
        platform.site.run("reindex")
        assert owners(platform) == {row["study_uid"]: row["clinic_id"] for row in before["studies"]}
    platform.site.done("reindex")
    assert picture(platform.catalog) == before


def test_half_an_archive_hides_what_it_lacks_and_the_whole_shows_it_again(
    platform: Rebuilt, tmp_path: Path
) -> None:
    before = platform.fill()
    with platform.other_archive(tmp_path / "half") as archive:
        store(archive, tag_bytes(instance_bytes(seed="b", patient="japanese"), SOUTH))
        platform.site.done("reindex", "--force")
        states = {row["study_uid"]: row["state"] for row in picture(platform.catalog)["studies"]}
        assert states.pop(sample_uid("b", "study")) == "confirmed"
        assert set(states.values()) == {"missing"}
        assert owners(platform) == {row["study_uid"]: row["clinic_id"] for row in before["studies"]}
    platform.site.done("reindex")
    assert picture(platform.catalog) == before
