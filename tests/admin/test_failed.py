"""`clinicpacs retry` and `dismiss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pacs.catalog.schema import audit
from support.corpus import instance_bytes
from support.dicom_files import tag_bytes
from support.site import DAY, NORTH, SOUTH, Site, store

if TYPE_CHECKING:
    from importer.files.failed import FailedFile


@pytest.fixture
def failed(sqlite_site: Site) -> Site:
    """Three failed files of northside, one of southside; the archive runs not."""
    sqlite_site.add_clinics()
    sqlite_site.fail("study/a.dcm", b"cut off")
    sqlite_site.fail("study/b.dcm", b"cut off, too")
    sqlite_site.fail("other/c.dcm", b"cut off as well")
    sqlite_site.fail("study/a.dcm", b"of another clinic", clinic=SOUTH)
    return sqlite_site


def open_failures(site: Site) -> list[str]:
    return [path for path, file in site.failures().items() if not file.dismissed]


def test_all_of_a_clinic_are_put_back(failed: Site) -> None:
    told = failed.done("retry", NORTH)
    assert failed.in_inbox() == ["other/c.dcm", "study/a.dcm", "study/b.dcm"]
    assert failed.failures() == {}
    assert list(failed.failures(SOUTH)) == ["study/a.dcm"]
    assert "3 files put back" in told
    (row,) = failed.rows(audit)
    assert (row["action"], row["clinic_id"], row["count"]) == ("retry", NORTH, 3)
    assert "nothing to do" in failed.done("retry", NORTH)


@pytest.mark.parametrize(
    "path",
    ["study", "study/", f"{DAY}/study", "./study", f"data/failed/{NORTH}/{DAY}/study"],
)
def test_a_folder_is_put_back_however_it_is_named(failed: Site, path: str) -> None:
    failed.done("retry", NORTH, path)
    assert failed.in_inbox() == ["study/a.dcm", "study/b.dcm"]
    assert open_failures(failed) == ["other/c.dcm"]


def test_one_file_is_put_back_by_its_full_path(failed: Site) -> None:
    failed.done("retry", NORTH, str(failed.failed / NORTH / DAY / "study" / "b.dcm"))
    assert failed.in_inbox() == ["study/b.dcm"]


@pytest.mark.parametrize("path", ["stud", "study/x", "..", "/etc/passwd", f"../{SOUTH}/{DAY}/study/a.dcm"])
@pytest.mark.parametrize("command", ["retry", "dismiss"])
def test_a_path_of_no_failed_file_is_one_sentence(failed: Site, command: str, path: str) -> None:
    result = failed.run(command, NORTH, path)
    assert result.exit_code == 2
    assert "no failed file has the path" in result.stderr
    assert len(open_failures(failed)) == 3
    assert failed.audited() == []


def test_nothing_in_the_inbox_is_overwritten(failed: Site) -> None:
    (failed.inbox / NORTH / "study").mkdir(parents=True)
    (failed.inbox / NORTH / "study" / "a.dcm").write_bytes(b"new")
    failed.done("retry", NORTH, "study/a.dcm")
    assert failed.in_inbox() == ["study/a (2).dcm", "study/a.dcm"]
    assert (failed.inbox / NORTH / "study" / "a.dcm").read_bytes() == b"new"


def test_what_was_stored_since_stays_unless_forced(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    content = instance_bytes()
    sqlite_site.fail("study/a.dcm", content)
    sqlite_site.fail("study/b.dcm", instance_bytes(instance_number=2))
    with sqlite_site.archive() as archive:
        store(archive, tag_bytes(content))
        told = sqlite_site.done("retry", NORTH)
        assert f"{DAY}/study/a.dcm: its image was stored since; left in failed" in told
        assert sqlite_site.in_inbox() == ["study/b.dcm"]
        sqlite_site.done("retry", NORTH, "--force")
    assert sqlite_site.in_inbox() == ["study/a.dcm", "study/b.dcm"]


def test_without_the_archive_nothing_is_put_back_that_it_may_have(sqlite_site: Site) -> None:
    sqlite_site.add_clinics()
    sqlite_site.fail("study/a.dcm", instance_bytes())
    result = sqlite_site.run("retry", NORTH)
    assert result.exit_code == 2
    assert "--force skips this check" in result.stderr
    assert sqlite_site.in_inbox() == []
    sqlite_site.done("retry", NORTH, "--force")
    assert sqlite_site.in_inbox() == ["study/a.dcm"]


def test_dismissed_files_stay_and_come_back_only_when_named(failed: Site) -> None:
    failed.done("dismiss", NORTH, "study")
    assert open_failures(failed) == ["other/c.dcm"]
    assert (failed.failed / NORTH / DAY / "study" / "a.dcm").read_bytes() == b"cut off"
    failed.done("retry", NORTH)
    assert failed.in_inbox() == ["other/c.dcm"]
    failed.done("retry", NORTH, "study/a.dcm")
    assert failed.in_inbox() == ["other/c.dcm", "study/a.dcm"]
    assert [row[:2] for row in failed.audited()] == [("dismiss", NORTH), ("retry", NORTH), ("retry", NORTH)]


def test_all_of_a_clinic_are_dismissed_after_a_question(failed: Site) -> None:
    for typed in ("n\n", ""):
        asked = failed.run("dismiss", NORTH, typed=typed)
        assert asked.exit_code == 1
        assert "3 failed files" in asked.output
    assert len(open_failures(failed)) == 3
    assert failed.audited() == []
    assert "3 files dismissed" in failed.done("dismiss", NORTH, typed="y\n")
    assert open_failures(failed) == []
    assert "nothing to do" in failed.done("dismiss", NORTH)


def test_all_of_a_clinic_are_dismissed_without_a_question(failed: Site) -> None:
    assert failed.done("dismiss", NORTH, "--yes").endswith("3 files dismissed\n")
    assert open_failures(failed) == []


def test_one_files_trouble_stops_none_of_the_others(failed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from admin.failed_files import each  # noqa: PLC0415
    from importer.files.failed import put_back  # noqa: PLC0415

    def work(file: FailedFile) -> None:
        if file.path == "study/a.dcm":
            (failed.failed / NORTH / DAY / "study" / "a.dcm").write_bytes(b"its writer went on")
        put_back(failed.failed, failed.inbox, file)

    results = {file.path: fault for file, fault in each(failed.failures().values(), work)}
    assert results == {"other/c.dcm": None, "study/a.dcm": "was written to meanwhile", "study/b.dcm": None}


def test_a_folder_whose_name_a_file_got_is_put_back_beside_it(failed: Site) -> None:
    (failed.inbox / NORTH).mkdir(parents=True)
    (failed.inbox / NORTH / "study").write_bytes(b"a file where the folder was")
    failed.done("retry", NORTH)
    assert failed.in_inbox() == ["other/c.dcm", "study", "study (2)/a.dcm", "study (2)/b.dcm"]


def test_a_file_that_cannot_be_moved_is_exit_1(failed: Site) -> None:
    failed.inbox.mkdir(exist_ok=True)
    (failed.inbox / NORTH).write_bytes(b"a file where the clinic's folder was")
    result = failed.run("retry", NORTH)
    assert result.exit_code == 1
    assert "3 files not put back" in result.stderr
    assert open_failures(failed) == ["other/c.dcm", "study/a.dcm", "study/b.dcm"]
    told = [(row["action"], row["count"], row["allowed"], row["detail"]) for row in failed.rows(audit)]
    assert told == [("retry", 3, True, ""), ("retry", 3, False, "(of these, not put back)")]


@pytest.mark.parametrize("command", ["retry", "dismiss", "conflicts"])
def test_an_unknown_clinic_is_one_sentence(sqlite_site: Site, command: str) -> None:
    result = sqlite_site.run(command, "eastside")
    assert result.exit_code == 2
    assert "there is no clinic 'eastside'" in result.stderr


def test_nothing_is_put_back_for_a_deactivated_clinic(failed: Site) -> None:
    failed.done("deactivate-clinic", NORTH)
    result = failed.run("retry", NORTH)
    assert result.exit_code == 2
    assert "is deactivated" in result.stderr
    assert len(open_failures(failed)) == 3
