"""`clinicpacs verify`: every file in processed is in the archive as it was sent, or is listed."""

from __future__ import annotations

import tempfile
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from admin.backup.refile import filed_since
from admin.platform import Platform
from admin.processed import Place, places
from admin.settings import AdminSettings
from admin.verifying import comparison
from admin.verifying.comparison import difference
from admin.verifying.verifier import Verifier
from importer.dicom.part10 import read_instance
from pacs.archive import ArchiveUnavailableError
from pacs.archive.retrieve import instance_in
from pacs.catalog import ownership
from pacs.catalog.ownership import Claim
from pacs.catalog.schema import studies, verifications
from pacs.catalog.verifications import last
from pacs.ids import Uid
from support.corpus import ENCAPSULATED_SYNTAXES, NATIVE_SYNTAXES, instance_bytes, make_instance, to_bytes
from support.dicom_files import opened, tag_bytes
from support.processed import flip, imported, in_archive, listed, put, recorded, told, with_history
from support.site import DAY, NORTH, NOW, SOUTH, Site, store

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER = "2026-01-03"


def test_what_was_imported_is_verified_whatever_it_is(site: Site) -> None:
    site.add_clinics()
    with site.archive() as archive:
        for number, syntax in enumerate((*NATIVE_SYNTAXES, *ENCAPSULATED_SYNTAXES)):
            content = instance_bytes(seed=syntax, transfer_syntax=syntax)
            imported(site, archive, f"study {number}/IM1.dcm", content)
        for modality in ("SR", "PDF", "US"):
            imported(site, archive, modality, instance_bytes(modality, seed=modality))
        imported(site, archive, "with history", with_history(instance_bytes(seed="history")))
        imported(site, archive, "padded", instance_bytes(seed="padded") + bytes(20), clinic=SOUTH)
        said = site.done("verify")
    assert "northside: 12 files verified\n" in said
    assert recorded(site) == {NORTH: (12, 0, 0), SOUTH: (1, 0, 0)}


@pytest.mark.parametrize(
    "syntax", [*NATIVE_SYNTAXES, RLELossless, ENCAPSULATED_SYNTAXES[1]], ids=lambda uid: uid.split(".")[-1]
)
def test_another_pixel_in_the_archive_is_found(sqlite_site: Site, syntax: str) -> None:
    site = sqlite_site
    site.add_clinics()
    content = instance_bytes(transfer_syntax=syntax)
    other = bytearray(content)
    if syntax == DeflatedExplicitVRLittleEndian:
        ds = make_instance(transfer_syntax=syntax)
        ds.PixelData = ds.PixelData[:-1] + b"\x77"
        other = bytearray(to_bytes(ds))
    else:
        other[-20] ^= 1
    with site.archive() as archive:
        imported(site, archive, "a.dcm", content)
        store(archive, tag_bytes(bytes(other)))
        assert listed(site, exit_code=1) == {"2026-01-02/a.dcm": f"different {comparison.PIXELS}"}
    assert recorded(site) == {NORTH: (1, 0, 1), SOUTH: (0, 0, 0)}


def test_each_way_of_not_being_there_is_told(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    contents = {
        name: instance_bytes(seed=name) for name in ("gone", "cut", "other", "added", "never", "well")
    }
    with site.archive() as archive:
        for name, content in contents.items():
            if name != "never":
                imported(site, archive, name, content)
        put(site, "never", contents["never"])
        in_archive(site, contents["gone"]).unlink()
        cut = in_archive(site, contents["cut"])
        cut.write_bytes(cut.read_bytes()[:-100])
        other = in_archive(site, contents["other"])
        flip(other, other.read_bytes().index(b"Sample study"))
        added = in_archive(site, contents["added"])
        added.write_bytes(added.read_bytes() + b"\xe0\x7f\x11\x00OB\0\0\2\0\0\0ab")
        put(site, "damaged", contents["well"][:-9])
        assert listed(site, exit_code=1) == {
            "2026-01-02/gone": "missing the archive does not give it (status-500)",
            "2026-01-02/cut": f"different {comparison.PIXELS}",
            "2026-01-02/other": f"different {comparison.ATTRIBUTES}",
            "2026-01-02/added": f"different {comparison.LONGER}",
            "2026-01-02/never": "missing the archive does not have it",
            "2026-01-02/damaged": "different it cannot be read any more (truncated)",
        }
    assert recorded(site)[NORTH] == (7, 2, 4)


def test_of_several_versions_the_last_filed_counts(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    old, new = (instance_bytes(description=text) for text in ("Old", "New"))
    with site.archive() as archive:
        imported(site, archive, "a/IM1.dcm", old)
        imported(site, archive, "a/IM1 (2).dcm", new)
        superseded = {"2026-01-02/a/IM1.dcm": "superseded by northside/2026-01-02/a/IM1 (2).dcm"}
        assert listed(site) == superseded
        assert recorded(site)[NORTH] == (1, 0, 0)
        put(site, "a/IM1.dcm", old, day=LATER)
        found = listed(site, exit_code=1)
    assert found.pop("2026-01-03/a/IM1.dcm") == f"different {comparison.ATTRIBUTES}"
    assert set(found) == {"2026-01-02/a/IM1.dcm", "2026-01-02/a/IM1 (2).dcm"}


def test_in_one_tick_of_the_clock_verify_prune_and_refile_agree_which_version_is_the_newest(
    sqlite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system's clock goes by 4 ms, in which an archive can store and the importer file."""
    site = sqlite_site
    site.add_clinics()
    for module in ("admin.verifying.again", "admin.verifying.verifier", "admin.backup.refile"):
        monkeypatch.setattr(f"{module}.places", _in_one_tick)
    names = ["b.dcm", "a (2).dcm", "a (10).dcm"]
    since = datetime.fromtimestamp(0, UTC)
    with site.archive() as archive:
        for name in names:
            imported(site, archive, name, instance_bytes(description=name))
        newest = f"superseded by northside/{DAY}/a (10).dcm"
        assert listed(site) == {f"{DAY}/{name}": newest for name in names[:2]}
        refiled = [file.path for file in filed_since(site.data / "processed", NORTH, since)]
        assert refiled == names
        # Had another one been stored last, nothing would be known of the newest.
        store(archive, tag_bytes(instance_bytes(description="b.dcm")))
        pruned = site.run("prune", "--older-than", "0d", "--superseded", "--yes")
        assert (pruned.exit_code, "3 files" in pruned.output) == (1, False), pruned.output
        assert len(filed_since(site.data / "processed", NORTH, since)) == 3
        store(archive, tag_bytes(instance_bytes(description="a (10).dcm")))
        site.done("prune", "--older-than", "0d", "--superseded", "--yes")
    assert not filed_since(site.data / "processed", NORTH, since)


def _in_one_tick(*arguments: Any) -> Iterator[Place]:
    """The last first, as a file system may list them."""
    found = [place._replace(filed_ns=1 << 60) for place in places(*arguments)]
    return iter(sorted(found, key=lambda place: place.order, reverse=True))


def test_a_newer_version_on_its_way_is_no_alarm(sqlite_site: Site) -> None:
    """It is stored before it leaves the inbox; and of a study that changed hands it is another clinic's."""
    site = sqlite_site
    site.add_clinics()
    old, new = (instance_bytes(description=text) for text in ("Old", "New"))
    with site.archive() as archive:
        imported(site, archive, "a.dcm", old)
        store(archive, tag_bytes(new))
        waiting = site.inbox / NORTH / "correction" / "a.dcm"
        waiting.parent.mkdir(parents=True)
        waiting.write_bytes(new)
        being_filed = {"2026-01-02/a.dcm": "superseded by a file that is just being filed"}
        assert listed(site) == being_filed
        flip(waiting)
        assert listed(site, exit_code=1) == {"2026-01-02/a.dcm": f"different {comparison.ATTRIBUTES}"}
        waiting.unlink()
        store(archive, tag_bytes(new, SOUTH))
        put(site, "a.dcm", new, SOUTH, LATER)
        assert listed(site, NORTH) == {"2026-01-02/a.dcm": "superseded by southside/2026-01-03/a.dcm"}


def test_what_holds_no_image_and_what_was_deleted_is_listed_apart(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    deleted = instance_bytes(seed="deleted")
    study = dcmread_study(deleted)
    with site.catalog.write() as connection:
        ownership.reserve(connection, Claim(NORTH, study, Uid(f"{study[:60]}.1"), "SAMPLE-1"), NOW)
        connection.execute(studies.update().values(state="deleted"))
    with site.archive() as archive:
        imported(site, archive, "well")
        put(site, "deleted", deleted)
        # As long as the archive has not done it, too.
        imported(site, archive, "deleted (2)", deleted)
        put(site, "Thumbs.db", b"x")
        put(site, "DICOMDIR", dicomdir())
        elsewhere = put(site, "else", b"no DICOM", day="no-day")
        (elsewhere.parents[1] / "2026-01-02" / "link").symlink_to(elsewhere)
        found = listed(site)
    assert {path.partition("/")[2]: text.split()[0] for path, text in found.items()} == {
        "deleted": "deleted",
        "deleted (2)": "deleted",
        "Thumbs.db": "skipped",
        "DICOMDIR": "skipped",
    }
    assert recorded(site)[NORTH] == (1, 0, 0)


def dcmread_study(content: bytes) -> Uid:
    with opened(content) as fd:
        return read_instance(fd).study_instance_uid


def dicomdir() -> bytes:
    ds = make_instance()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    ds.DirectoryRecordSequence = []
    return to_bytes(ds)


def test_from_a_day_on_is_no_whole_verification_and_hides_nothing_of_one(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        never = [instance_bytes(seed=f"never {number}") for number in range(2)]
        for number, content in enumerate(never):
            put(site, f"never {number}", content)
        imported(site, archive, "well", day=LATER)
        assert not told(site, NORTH, "--since", LATER)[-1]["recorded"]
        assert recorded(site) == {}
        told(site, exit_code=1)
        assert recorded(site)[NORTH] == (3, 2, 0)
        put(site, "never 2", instance_bytes(seed="never 2"), day=LATER)
        assert not told(site, NORTH, "--since", LATER, exit_code=1)[-1]["recorded"]
        assert recorded(site)[NORTH] == (3, 2, 0)
        for content in (*never, instance_bytes(seed="never 2")):
            store(archive, tag_bytes(content))
        told(site, NORTH)
    assert recorded(site)[NORTH] == (4, 0, 0)


def test_what_is_worse_from_a_day_on_is_told_at_once_with_the_time_of_the_whole_one(
    sqlite_site: Site,
) -> None:
    site = sqlite_site
    site.add_clinics()
    with site.archive() as archive:
        put(site, "never", instance_bytes(seed="never"), SOUTH, LATER)
        assert told(site, SOUTH, "--since", LATER, exit_code=1)[-1]["recorded"]
        imported(site, archive, "well")
        told(site, NORTH)
        with site.catalog.write() as connection:
            connection.execute(verifications.update().values(finished_at=NOW))
        put(site, "never", instance_bytes(seed="never here"), day=LATER)
        assert told(site, NORTH, "--since", LATER, exit_code=1)[-1]["recorded"]
    assert recorded(site) == {NORTH: (1, 1, 0), SOUTH: (1, 1, 0)}
    with site.catalog.read() as connection:
        assert {each.finished_at for each in last(connection)} == {NOW}


def test_without_the_archive_nothing_is_said(sqlite_site: Site) -> None:
    site = sqlite_site
    site.add_clinics()
    place = put(site, "a.dcm", instance_bytes())
    result = site.run("verify")
    assert result.exit_code == 2
    assert "is not available: unreachable" in result.output
    with site.archive():
        url = f"{site.env['ARCHIVE_URL']}/elsewhere"
        assert "status-404" in site.run("verify", ARCHIVE_URL=url).output
        platform = Platform(AdminSettings(**settings_of(site)))
        verifier = Verifier(platform, pauses=(0.01,))
        verifier.require_archive()
    # It has gone away in the middle of it.
    with closing(platform), pytest.raises(ArchiveUnavailableError):
        list(verifier.clinic(NORTH))
    assert place.exists()
    assert recorded(site) == {}


def settings_of(site: Site) -> dict[str, Any]:
    return {name.lower(): value for name, value in site.env.items()} | {"_env_file": None}


def test_a_clinic_that_the_catalog_does_not_have_is_verified_all_the_same(sqlite_site: Site) -> None:
    with sqlite_site.archive() as archive:
        imported(sqlite_site, archive, "a.dcm")
        assert (
            told(sqlite_site)[-1] | {"clinic": NORTH, "verified": 1, "recorded": False}
            == told(sqlite_site)[-1]
        )
        assert sqlite_site.run("verify", SOUTH).exit_code == 2


def any_clinic(_owners: object) -> bool:
    return True


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_where_chunks_end_does_not_matter(size: int) -> None:
    for syntax in (NATIVE_SYNTAXES[0], DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless):
        content = instance_bytes(transfer_syntax=syntax)
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + tag_bytes(content) + b"\r\n--B--\r\n"
        parts = (body[start : start + size] for start in range(0, len(body), size))
        with opened(content) as fd:
            stored = instance_in('multipart/related; type="application/dicom"; boundary="B"', parts)
            assert not difference(read_instance(fd), fd, stored, any_clinic)


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("text/html", b"<html>", "not-dicom"),
        ("multipart/related", b"", "not-dicom"),
        ("multipart/related; boundary=B", b"x" * 70_000, "not-dicom"),
        ("multipart/related; boundary=B", b"--B\r\n\r\nDICM", "interrupted"),
        ("multipart/related; boundary=B", b"--B\r\n", "interrupted"),
    ],
)
def test_what_is_no_instance_says_nothing_of_the_file(content_type: str, body: bytes, reason: str) -> None:
    with pytest.raises(ArchiveUnavailableError) as error:
        b"".join(instance_in(content_type, iter([body] * (2 if len(body) > 1000 else 1))))
    assert error.value.reason == reason


def test_a_large_instance_is_never_held_whole() -> None:
    head = instance_bytes(size=64)
    place = head.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    length = 96 << 20
    with tempfile.TemporaryFile() as file:
        file.write(head[:place] + length.to_bytes(4, "little"))
        file.truncate(place + 4 + length)
        file.flush()
        fd = file.fileno()
        header = read_instance(fd)
        beginning = tag_bytes(head)[: tag_bytes(head).rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8]

        def stored(last: bytes) -> Iterator[bytes]:
            yield beginning + length.to_bytes(4, "little")
            for _ in range(length // (1 << 18) - 1):
                yield bytes(1 << 18)
            yield bytes((1 << 18) - 1) + last

        tracemalloc.start()
        try:
            assert not difference(header, fd, stored(b"\0"), any_clinic)
            assert difference(header, fd, stored(b"\1"), any_clinic) == comparison.PIXELS
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
