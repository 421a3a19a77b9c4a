"""`clinicpacs verify` and `prune` with a real Orthanc, whose storage is damaged while it is down."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from admin.verifying import comparison, tagged
from pacs.archive.dicomweb import DicomWebArchive
from pacs.settings import ArchiveSettings
from support.corpus import ENCAPSULATED_SYNTAXES, NATIVE_SYNTAXES, instance_bytes, to_bytes
from support.dicom_files import tag_bytes
from support.filed import Referral, file_study
from support.orthanc import Orthanc, require_installed
from support.processed import flip, imported, listed, put, with_history
from support.site import DAY, NORTH, SOUTH, Site, store
from support.transferring import stored

if TYPE_CHECKING:
    from pathlib import Path

    from pacs.catalog import Catalog

OTHERS = [*ENCAPSULATED_SYNTAXES, *NATIVE_SYNTAXES]
DAMAGED = ("flipped", "cut", "gone", "never stored")


@pytest.fixture
def site(tmp_path: Path, sqlite_catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    return Site.at(tmp_path / "data", sqlite_catalog, f"sqlite:///{tmp_path / 'only-catalog.db'}")


def test_what_orthanc_has_lost_or_changed_is_found_and_stays_in_processed(site: Site, tmp_path: Path) -> None:
    require_installed()
    site.add_clinics()
    server = Orthanc.start(tmp_path)
    try:
        archive = client(site, server)
        contents = {name: instance_bytes(seed=name) for name in DAMAGED}
        for name, content in contents.items():
            if name == "never stored":
                put(site, name, content)
            else:
                imported(site, archive, name, content)
        for number, syntax in enumerate(OTHERS):
            imported(site, archive, f"{number}.dcm", instance_bytes(seed=syntax, transfer_syntax=syntax))
        for modality in ("SR", "PDF", "US"):
            imported(site, archive, modality, instance_bytes(modality, seed=modality))
        imported(site, archive, "corrected", instance_bytes(seed="x", description="Wrong"))
        imported(site, archive, "corrected (2)", instance_bytes(seed="x", description="Right"))
        archive.close()
    finally:
        # It answers from memory what it has just been sent.
        server.stop()
    stored = {path.read_bytes(): path for path in (tmp_path / "storage").rglob("*") if path.is_file()}
    places = {name: stored[tag_bytes(content)] for name, content in contents.items() if name in DAMAGED[:3]}
    flip(places["flipped"], -20)
    places["cut"].write_bytes(places["cut"].read_bytes()[:-50])
    places["gone"].unlink()
    server = Orthanc.start(tmp_path)
    try:
        client(site, server).close()
        result = site.run("verify", NORTH)
        assert result.exit_code == 1, result.output
        told = dict(line.split(None, 1)[::-1] for line in result.stdout.splitlines()[:-1])
        base = f"{NORTH}/{DAY}"
        assert told == {
            f"{base}/flipped: {comparison.PIXELS}": "different",
            f"{base}/cut: {comparison.PIXELS}": "different",
            f"{base}/gone: the archive does not give it (status-500)": "missing",
            f"{base}/never stored: the archive does not have it": "missing",
            f"{base}/corrected: by {base}/corrected (2)": "superseded",
        }
        assert result.stdout.splitlines()[-1].startswith("northside: 12 files verified, ")
        assert site.run("prune", "--older-than", "0d", "--superseded", "--yes").exit_code == 1
        left = {path.name for path in (site.data / "processed").rglob("*") if path.is_file()}
        assert left == set(DAMAGED)
    finally:
        server.stop()


def test_an_orthanc_that_keeps_old_images_is_found_out(site: Site, tmp_path: Path) -> None:
    require_installed()
    site.add_clinics()
    server = Orthanc.start(tmp_path, overwrite=False)
    try:
        archive = client(site, server)
        imported(site, archive, "a", instance_bytes(description="Wrong"))
        store(archive, tag_bytes(instance_bytes(description="Right")))
        put(site, "b", instance_bytes(description="Right"))
        archive.close()
        assert f"different   northside/{DAY}/b" in site.run("verify", NORTH).stdout
    finally:
        server.stop()


def test_what_orthanc_lost_of_history_and_owners_is_found_and_stays_in_processed(
    site: Site, tmp_path: Path
) -> None:
    require_installed()
    site.add_clinics()
    server = Orthanc.start(tmp_path)
    try:
        archive = client(site, server)
        study = Referral("one", {"institution": "Sample"})
        contents = [with_history(content, items=2, undefined=False) for content in study.files()]
        file_study(site.catalog, archive, NORTH, *contents)
        for number, content in enumerate(contents):
            put(site, str(number), content)
        for owner in (SOUTH, NORTH, SOUTH):
            site.done("transfer", study.uid, "--to", owner)
            assert listed(site) == {}
        before = list(stored(archive, study).values())
        changed = [dcmread(BytesIO(content)) for content in before[:3]]
        changed[0].OriginalAttributesSequence.pop(1)
        changed[1].OriginalAttributesSequence.pop()
        # As it was before the last transfer.
        changed[2].OriginalAttributesSequence.pop()
        changed[2].InstitutionName = NORTH
        store(archive, *map(to_bytes, changed))
        assert sorted(listed(site, exit_code=1).values()) == sorted(
            f"different {sentence}" for sentence in (tagged.HISTORY, tagged.CLINIC, tagged.HISTORY)
        )
        pruned = site.run("prune", "--older-than", "0d", "--yes")
        assert (pruned.exit_code, "northside: 1 file " in pruned.stdout) == (1, True), pruned.output
        store(archive, *before)
        assert listed(site) == {}
        archive.close()
    finally:
        server.stop()


def client(site: Site, server: Orthanc) -> DicomWebArchive:
    site.env |= {
        "ARCHIVE_URL": server.dicomweb_url,
        "ARCHIVE_USERNAME": server.username,
        "ARCHIVE_PASSWORD": server.password,
    }
    return DicomWebArchive(
        ArchiveSettings(
            archive_url=server.dicomweb_url,
            archive_username=server.username,
            archive_password=server.password,  # type: ignore[arg-type]
        )
    )
