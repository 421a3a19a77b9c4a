"""`clinicpacs refile`: files stored since a backup are imported anew, the last version last, none lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from admin.backup import refile as refiling
from admin.backup.filing_order import FilingOrder, as_time, file_system_time
from admin.backup.refile import JOURNAL, Refiler, filed_since
from admin.processed import Place
from importer.files.moving import StrangerError
from importer.inbox.advisory import AdvisoryLocks
from importer.inbox.locks import InboxLock
from importer.inbox.look import EmptyFolders, Look
from importer.inbox.stability import StabilityTracker
from pacs.catalog.schema import studies
from pacs.ids import ClinicId
from support.corpus import instance_bytes
from support.site import NORTH, SOUTH, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs.catalog import Catalog

ROOT = Path(__file__).parents[2]
TODAY = f"{datetime.now().astimezone():%Y-%m-%d}"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path, catalog: Catalog, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A platform, once on SQLite and once on PostgreSQL."""
    monkeypatch.chdir(tmp_path)
    return Site.at(tmp_path / "data", catalog, database_url)


@pytest.fixture
def sqlite_site(tmp_path: Path, sqlite_catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    made = Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")
    made.add_clinics()
    return made


def processed(site: Site) -> Path:
    return site.data / "processed"


def file(site: Site, path: str | bytes, content: bytes = b"x", clinic: str = NORTH, day: str = TODAY) -> Path:
    """File something as the importer does."""
    place = processed(site) / clinic / day / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def next_tick(folder: Path) -> datetime:
    """The file system's time once it has gone on."""
    now = file_system_time(folder)
    while file_system_time(folder) <= now + 3_000_000:
        time.sleep(0.001)
    return as_time(file_system_time(folder))


def order_of_import(site: Site, clinic: ClinicId = NORTH) -> list[str]:
    """The order in which the importer's own scanner hands out what is in an inbox."""
    tracker = StabilityTracker(1.0)
    Look(site.inbox, clinic, tracker, EmptyFolders(1.0), lambda: 0.0).through()
    return [ripe.path for ripe in tracker.take(5.0)]


def run_importer(site: Site, tmp_path: Path) -> None:
    env = {name: value for name, value in site.env.items() if value}
    env |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "COOLDOWN_SECONDS": "0.1",
        "RESCAN_SECONDS": "0.2",
    }
    with (tmp_path / "importer.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "importer", "--once"],
            env=env,
            check=True,
            stdout=log,
            stderr=log,
            timeout=50,
        )


def version(number: int) -> bytes:
    """One instance, as it was corrected for the so-manieth time."""
    ds = dcmread(BytesIO(instance_bytes(seed="one")))
    ds.InstanceNumber = 1
    ds.ImageComments = f"version {number}"
    buffer = BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def test_the_last_version_wins_in_the_archive(site: Site, tmp_path: Path) -> None:
    site.add_clinics()
    # Paths against the order of time, so that nothing but the order of filing decides.
    for number, path in enumerate(["m/2.dcm", "z/1.dcm", "a/3.dcm", "a/0.dcm"]):
        file(site, path, version(number))
        next_tick(processed(site))
    # This one waited all along: it is the newest.
    waiting = site.inbox / NORTH / "b" / "4.dcm"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(version(4))
    next_tick(site.inbox)
    with site.archive():
        assert "4 files put back" in site.done("refile", "--since", LONG_AGO.isoformat())
        run_importer(site, tmp_path)
        in_archive = [path.read_bytes() for path in (site.data / "dicom").rglob("*") if path.is_file()]
        assert [b"version 4" in content for content in in_archive if b"version " in content] == [True]
    assert len(list(processed(site).rglob("*.dcm"))) == 5
    (row,) = site.rows(studies)
    assert (row["clinic_id"], row["state"]) == (NORTH, "confirmed")
    assert ("refile", NORTH, True) in site.audited()


def test_only_what_was_filed_since_goes_back(sqlite_site: Site) -> None:
    site = sqlite_site
    file(site, "study/before.dcm")
    since = next_tick(processed(site))
    time_later = since + timedelta(seconds=2)  # the grain that is added for coarse file systems
    file(site, "study/after.dcm")
    file(site, "old.dcm", day="2020-01-01")
    site.done("refile", "--since", LONG_AGO.isoformat(), "--dry-run")
    assert site.in_inbox() == []
    assert [f.path for f in filed_since(processed(site), NORTH, time_later)] == ["study/after.dcm"]
    assert "2 files would be put back" in site.done("refile", "--since", since.isoformat(), "--dry-run")
    # A folder of an older day holds nothing that was filed since, whatever its times say.
    assert "old.dcm" not in [f.path for f in filed_since(processed(site), NORTH, since)]


def test_the_order_of_filing_is_the_order_of_import(sqlite_site: Site) -> None:
    site = sqlite_site
    paths = [f"{letter}/{number}.dcm" for number in (3, 1, 2) for letter in "zamb"]
    for path in paths:
        file(site, path)
        next_tick(processed(site))
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert order_of_import(site) == paths


def test_of_names_filed_in_one_tick_the_numbered_one_came_later() -> None:
    found = [Place(NORTH, TODAY, name, 5) for name in ("x (10).dcm", "x.dcm", "x (2).dcm")]
    assert [each.path for each in sorted(found, key=lambda each: each.order)] == [
        "x.dcm",
        "x (2).dcm",
        "x (10).dcm",
    ]


def test_what_was_exchanged_since_it_was_listed_stays(sqlite_site: Site) -> None:
    site = sqlite_site
    file(site, "1.dcm")
    next_tick(processed(site))
    place = file(site, "2.dcm")

    def exchange(_done: int) -> None:
        place.with_name("other").write_bytes(b"another")
        place.with_name("other").replace(place)

    refiler = Refiler(processed(site), site.inbox, LONG_AGO, exchange)
    refiler.begin()
    next_tick(processed(site))
    with pytest.raises(StrangerError):
        refiler.refile(NORTH)
    assert place.read_bytes() == b"another"
    assert site.in_inbox() == ["1.dcm"]


def test_what_waits_comes_behind_and_stays_as_it_is(sqlite_site: Site) -> None:
    site = sqlite_site
    waiting = [site.inbox / NORTH / name for name in ("0/w2.dcm", "0/w1.dcm")]
    for place in waiting:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"waits")
        os.utime(place, ns=(1_000_000_000, 1_000_000_000))
        next_tick(site.inbox)
    uploading = site.inbox / NORTH / "0" / "u.part"
    uploading.write_bytes(b"under way")
    before = uploading.stat().st_ctime_ns
    file(site, "z.dcm")
    next_tick(processed(site))
    file(site, "y.dcm")
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert order_of_import(site) == ["z.dcm", "y.dcm", "0/w2.dcm", "0/w1.dcm"]
    assert [place.stat().st_mtime_ns for place in waiting] == [1_000_000_000] * 2
    assert uploading.stat().st_ctime_ns == before
    assert sorted(path.name for path in (site.inbox / NORTH / "0").iterdir()) == [
        "u.part",
        "w1.dcm",
        "w2.dcm",
    ]


def one_waits(site: Site) -> Path:
    """A file that waits, and one that was filed after it came."""
    waiting = site.inbox / NORTH / "w.dcm"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b"waits")
    next_tick(site.inbox)
    file(site, "z.dcm")
    return waiting


def refuse(*_args: object, **_options: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_files_of_others_are_renamed_there_and_back(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may refuse a second name for a file of another user."""
    site = sqlite_site
    waiting = one_waits(site)
    monkeypatch.setattr(os, "link", refuse)
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert order_of_import(site) == ["z.dcm", "w.dcm"]
    assert waiting.read_bytes() == b"waits"


def test_nothing_is_overwritten_and_hostile_names_come_back(sqlite_site: Site) -> None:
    site = sqlite_site
    names = [b"caf\xe9/im\xff.dcm", b"new\nline.dcm", b"-rf.dcm", b"n" * 255, b"taken.dcm", b"folder/x.dcm"]
    for name in names:
        file(site, name, name)
    (site.inbox / NORTH).mkdir(parents=True)
    (site.inbox / NORTH / "taken.dcm").write_bytes(b"of the clinic")
    (site.inbox / NORTH / "folder").write_bytes(b"a file in the way")
    (processed(site) / NORTH / TODAY / "link").symlink_to("/etc/hostname")
    os.mkfifo(processed(site) / NORTH / TODAY / "pipe")
    site.done("refile", "--since", LONG_AGO.isoformat())
    inbox = site.inbox / NORTH
    found = {
        os.fsencode(path.relative_to(inbox)): path.read_bytes() for path in inbox.rglob("*") if path.is_file()
    }
    assert sorted(found.values()) == sorted([*names, b"of the clinic", b"a file in the way"])
    assert found[b"taken.dcm"] == b"of the clinic"
    assert found[b"taken (2).dcm"] == b"taken.dcm"
    assert found[b"caf\xe9/im\xff.dcm"] == b"caf\xe9/im\xff.dcm"
    assert sorted(path.name for path in (processed(site) / NORTH / TODAY).iterdir()) == ["link", "pipe"]


def test_litter_stays_and_emptied_folders_go(sqlite_site: Site) -> None:
    site = sqlite_site
    file(site, "a/Thumbs.db")
    file(site, "b/c/1.dcm")
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert site.in_inbox() == ["b/c/1.dcm"]
    assert [path.name for path in (processed(site) / NORTH / TODAY).iterdir()] == ["a"]


@pytest.mark.parametrize("moves", range(0, 10, 2))
def test_an_interrupted_run_is_gone_on_with_in_the_right_order(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    site = sqlite_site
    waiting = site.inbox / NORTH / "a-waits.dcm"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b"waits")
    next_tick(site.inbox)
    paths = ["d.dcm", "c.dcm", "b.dcm", "e/a.dcm"]
    for path in paths:
        file(site, path)
        next_tick(processed(site))
    left = [moves]

    def dying(work: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return work(*args, **options)

        return run

    with monkeypatch.context() as patched:
        patched.setattr(refiling, "move", dying(refiling.move))
        patched.setattr(FilingOrder, "put_last", dying(FilingOrder.put_last))
        patched.setattr(Refiler, "finish", dying(Refiler.finish))
        assert site.run("refile", "--since", LONG_AGO.isoformat()).exit_code == 1
    assert (site.inbox / JOURNAL).exists()
    next_tick(site.inbox)
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert order_of_import(site) == [*paths, "a-waits.dcm"]
    assert not (site.inbox / JOURNAL).exists()
    assert "0 files put back" in site.done("refile", "--since", LONG_AGO.isoformat())


def test_what_could_not_be_put_behind_is_told_by_a_second_run_too(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sqlite_site
    one_waits(site)
    put_last = FilingOrder.put_last

    def put(order: FilingOrder, folder_fd: int, name: str, path: str, *, touch: bool = False) -> None:
        if touch:
            refuse()
        put_last(order, folder_fd, name, path)

    monkeypatch.setattr(FilingOrder, "put_last", put)
    with monkeypatch.context() as patched:
        patched.setattr(Refiler, "finish", refuse)
        assert "1 file that waited" in site.run("refile", "--since", LONG_AGO.isoformat()).stderr
    result = site.run("refile", "--since", LONG_AGO.isoformat())
    assert (result.exit_code, result.stdout) == (0, "0 files put back into the inbox\n")
    assert f"{NORTH}: 1 file that waited could not be put behind them" in result.stderr


def test_files_of_a_clinic_that_the_catalog_lost_wait_and_are_reported(sqlite_site: Site) -> None:
    site = sqlite_site
    file(site, "1.dcm", clinic="westside")
    file(site, "1.dcm", clinic=SOUTH)
    file(site, "1.dcm", clinic="Not A Clinic")
    site.done("deactivate-clinic", SOUTH)
    result = site.run("refile", "--since", LONG_AGO.isoformat())
    assert result.exit_code == 0
    assert "westside is not in the catalog" in result.stderr
    assert f"{SOUTH} is deactivated" in result.stderr
    assert site.in_inbox(ClinicId("westside")) == ["1.dcm"]
    assert (processed(site) / "Not A Clinic" / TODAY / "1.dcm").exists()


def test_a_running_importer_is_refused(site: Site) -> None:
    site.add_clinics()
    file(site, "1.dcm")
    site.inbox.mkdir(parents=True)
    locks = InboxLock(site.inbox) if site.catalog.is_sqlite else AdvisoryLocks(site.catalog)
    try:
        locks.hold({NORTH, SOUTH}, lambda _clinic_id: True)
        result = site.run("refile", "--since", LONG_AGO.isoformat())
        assert result.exit_code == 2
        assert "the importer runs" in result.output
        assert site.in_inbox() == []
    finally:
        locks.close()
    site.done("refile", "--since", LONG_AGO.isoformat())
    assert site.in_inbox() == ["1.dcm"]


@pytest.mark.parametrize("since", ["yesterday", "2026-01-02", "2026-01-02T03:04:05"])
def test_a_time_without_its_zone_is_refused(sqlite_site: Site, since: str) -> None:
    assert sqlite_site.run("refile", "--since", since).exit_code == 2


def test_a_platform_without_processed_files_has_nothing_to_do(sqlite_site: Site) -> None:
    assert "0 files" in sqlite_site.done("refile", "--since", LONG_AGO.isoformat())
