"""Files of a study that was deleted and sent again: the deletion explains the old ones, and only these."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from admin import deletion
from admin.platform import Platform
from admin.processed import Place
from admin.settings import AdminSettings
from admin.verifying.outcome import Outcome
from admin.verifying.verifier import Verifier
from support.filed import Referral, file_study, platform
from support.processed import in_archive, listed, put, recorded
from support.site import NORTH, SOUTH, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.archive.dicomweb import DicomWebArchive

ONE = Referral("one")
TODAY = f"{datetime.now().astimezone():%Y-%m-%d}"


@pytest.fixture
def archive(site: Site) -> Iterator[DicomWebArchive]:
    """With a study that has been imported, and filed today."""
    site.add_clinics()
    with site.archive() as running:
        send(site, running, "old", *ONE.files())
        yield running


def send(site: Site, archive: DicomWebArchive, folder: str, *contents: bytes) -> None:
    file_study(site.catalog, archive, NORTH, *contents, now=datetime.now(UTC))
    for number, content in enumerate(contents):
        put(site, f"{folder}/{number}", content, day=TODAY)


def found(site: Site, exit_code: int = 0) -> dict[str, str]:
    """What is said of each file that is listed, without the day."""
    told = listed(site, exit_code=exit_code)
    return {path.partition("/")[2]: text.split()[0] for path, text in told.items()}


def test_what_was_filed_before_the_deletion_is_no_alarm_and_what_came_after_is_verified(
    site: Site, archive: DicomWebArchive
) -> None:
    site.done("delete", ONE.uid, "--yes")
    assert found(site) == {f"old/{number}": "deleted" for number in range(4)}
    again = [ONE.file(1, 1), ONE.file(3, 9)]
    send(site, archive, "again", *again)
    before = {"old/0": "superseded"} | {f"old/{number}": "deleted" for number in (1, 2, 3)}
    assert found(site) == before
    assert recorded(site)[NORTH] == (2, 0, 0)
    put(site, "again/never stored", ONE.file(4, 1), day=TODAY)
    in_archive(site, again[1]).unlink()
    assert found(site, exit_code=1) == before | {"again/never stored": "missing", "again/1": "missing"}
    assert recorded(site)[NORTH] == (3, 2, 0)


def test_only_what_was_verified_is_pruned_unless_told(site: Site, archive: DicomWebArchive) -> None:
    def prune(*options: str) -> set[str]:
        assert site.run("prune", "--older-than", "0d", "--yes", *options).exit_code == 1
        folder = site.data / "processed" / NORTH / TODAY
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    site.done("delete", ONE.uid, "--yes")
    send(site, archive, "again", ONE.file(3, 9))
    put(site, "again/never stored", ONE.file(1, 2), day=TODAY)
    assert prune() == {"old/0", "old/1", "old/2", "old/3", "again/never stored"}
    assert prune("--deleted") == {"old/1", "again/never stored"}, "the newer file of 1 is not in the archive"


@pytest.mark.config
def test_a_study_that_went_to_another_clinic_and_was_deleted_there(
    site: Site, archive: DicomWebArchive
) -> None:
    site.done("transfer", ONE.uid, "--to", SOUTH)
    site.done("delete", ONE.uid, "--yes")
    file_study(site.catalog, archive, SOUTH, ONE.file(1, 1), now=datetime.now(UTC))
    assert set(found(site).values()) == {"deleted"}


@pytest.mark.config
def test_a_deletion_by_a_clock_that_is_fast_explains_nothing_that_was_sent_again(
    site: Site, archive: DicomWebArchive
) -> None:
    fast = platform(site, archive)
    fast.__dict__["now"] = lambda: datetime.now(UTC) + timedelta(hours=1)
    deletion.bury(fast, ONE.uid)
    deletion.remove(fast, ONE.uid)
    again = ONE.file(1, 1)
    send(site, archive, "again", again)
    in_archive(site, again).unlink()
    told = found(site, exit_code=1)
    assert told == {"old/0": "superseded", "again/0": "missing"} | {
        f"old/{number}": "deleted" for number in (1, 2, 3)
    }


def test_a_study_that_is_sent_again_meanwhile_is_asked_for(sqlite_site: Site) -> None:
    """Not taken for the deleted one that it was when the verification began."""
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        file_study(site.catalog, archive, NORTH, *ONE.files(), now=datetime.now(UTC))
        site.done("delete", ONE.uid, "--yes")
        env = {name.lower(): value for name, value in site.env.items()}
        with closing(Platform(AdminSettings(_env_file=None, **env))) as commands:  # type: ignore[arg-type]
            verifier = Verifier(commands)
            send(site, archive, "again", ONE.file(1, 1), ONE.file(1, 2))
            in_archive(site, ONE.file(1, 1)).unlink()
            outcomes = [verdict.outcome for verdict in verifier.clinic(NORTH)]
            site.done("delete", ONE.uid, "--yes")
            file_study(site.catalog, archive, NORTH, ONE.file(2, 1), now=datetime.now(UTC))
            after_another = {verdict.outcome for verdict in verifier.clinic(NORTH)}
    assert sorted(outcomes) == [Outcome.MISSING, Outcome.VERIFIED]
    assert after_another == {Outcome.DELETED}


MOMENT = datetime(2026, 3, 4, 12, tzinfo=UTC)
MOMENT_NS = int(MOMENT.timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("day", "filed_ns", "before"),
    [
        ("2026-03-04", MOMENT_NS - 1, True),
        ("2026-03-04", MOMENT_NS, False),
        # Copied since, with all of its folder
        ("2026-03-02", MOMENT_NS + 1, True),
        # A day that may have lasted until then, where it was written
        ("2026-03-03", MOMENT_NS + 1, False),
        # In the inbox
        ("", MOMENT_NS + 1, False),
    ],
)
def test_when_a_file_was_filed(day: str, filed_ns: int, *, before: bool) -> None:
    assert Place(NORTH, day, "a", filed_ns).was_filed_before(MOMENT) is before
