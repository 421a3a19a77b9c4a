"""A corrected image of the owner's, as viewers get it through nginx, gateway, cache and Orthanc."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from bench.servers import site as sites
from support import chaos
from support.corpus import SamplePatient, make_instance, sample_uid, to_bytes
from support.importing import NORTH, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support.orthanc import Orthanc

STUDY = sample_uid("corrected", "study")
SERIES = sample_uid("corrected", "series", "CT")
INSTANCE = sample_uid("corrected", "instance", "CT", SERIES, 1)
PATH = f"/dicom-web/studies/{STUDY}/series/{SERIES}"
ROUNDS = chaos.scaled(10, least=2)
_PIXELS = 32 * 32 * 2


def image(version: int, patient: str = "SAMPLE-1") -> bytes:
    """Pixels and metadata of this version."""
    made = make_instance(
        "CT", seed="corrected", patient=SamplePatient(patient, "Sample^Aurora", "ISO_IR 100")
    )
    made.RescaleIntercept = version
    made.PixelData = bytes([version]) * _PIXELS
    return to_bytes(made)


class Look(NamedTuple):
    """What a viewer got, and what the catalog said of the study just before."""

    revision: int
    settled: bool
    pixels: int
    metadata: int


@dataclass
class Viewing:
    """A site, its importer's world, and a viewer who never closes the study."""

    site: sites.Site
    world: World
    looks: list[Look] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        return self.world.study(STUDY) or {}

    def ask(self, path: str, accept: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.site.token()}", "Accept": accept}
        answer = self.site.nginx.request("GET", f"{PATH}{path}", headers)
        assert answer.status == 200, (path, answer.status)
        return answer.data

    def look(self) -> Look:
        row = self.row()
        frame = self.ask(
            f"/instances/{INSTANCE}/frames/1", 'multipart/related; type="application/octet-stream"'
        )
        start = frame.index(b"\r\n\r\n") + 4
        pixels = set(frame[start : start + _PIXELS])
        assert len(pixels) == 1, "a blend of two images"
        (told,) = json.loads(self.ask("/metadata", "application/dicom+json"))
        return Look(row["revision"], row["settled"], pixels.pop(), round(float(told["00281052"]["Value"][0])))

    def watched(self) -> AbstractContextManager[None]:
        return chaos.again_and_again(lambda: self.looks.append(self.look()))

    def is_settled_after(self, revision: int) -> bool:
        row = self.row()
        return row["settled"] and row["marked"] == row["refreshed"] and row["revision"] > revision


@pytest.fixture
def viewing(tmp_path: Path, sqlite_template: Path, orthanc: Orthanc) -> Iterator[Viewing]:
    shutil.copyfile(sqlite_template, tmp_path / "catalog.db")
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    with sites.running(tmp_path / "site", orthanc, database_url=url) as site:
        login = {"archive_username": orthanc.username, "archive_password": orthanc.password}
        options = {"archive_url": orthanc.dicomweb_url, "archive_stable_age_seconds": 1, **login}
        world = World(tmp_path / "data", site.catalog, url, options=options)
        (world.inbox / NORTH).mkdir(parents=True)
        yield Viewing(site, world)


@pytest.mark.timeout(600)
def test_new_pixels_and_metadata_are_what_the_viewer_gets(viewing: Viewing) -> None:
    """Never old pixels from the cache once the row was refreshed, never old metadata once it has settled."""
    versions = {"v.dcm": image(1)}
    with viewing.world.running():
        viewing.world.drop("v.dcm", image(1))
        wait_until(lambda: viewing.row() and viewing.is_settled_after(0), 40)
        for version in range(2, ROUNDS + 2):
            correct(viewing, version)
            versions[f"v ({version}).dcm"] = image(version)
    assert viewing.world.done() == versions
    chaos.counts.append(f"corrections: {ROUNDS} of one image, seen while it was exchanged")


def correct(viewing: Viewing, version: int) -> None:
    before = viewing.look()
    assert (before.pixels, before.metadata) == (version - 1, version - 1)
    viewing.looks.clear()
    with viewing.watched():
        viewing.world.drop("v.dcm", image(version))
        wait_until(lambda: viewing.is_settled_after(before.revision), 40)
        count = len(viewing.looks)
        wait_until(lambda: len(viewing.looks) > count + 3)
    assert_in_order(viewing.looks, before, version)


def assert_in_order(looks: list[Look], before: Look, version: int) -> None:
    """Old or new before the refresh; new pixels from then on; new metadata from the settling on."""
    for look in looks:
        assert {look.pixels, look.metadata} <= {version - 1, version}
        if look.revision > before.revision:
            assert look.pixels == version, look
        if look.revision > before.revision and look.settled:
            assert look.metadata == version, look
    assert [look.pixels for look in looks] == sorted(look.pixels for look in looks)
    assert len({look.revision for look in looks}) >= 2


@pytest.mark.timeout(300)
def test_the_study_is_readable_throughout_a_clinics_own_mistakes(viewing: Viewing) -> None:
    """Another PatientID is sent again, and one UID twice in a folder with other pixels."""
    with viewing.world.running():
        viewing.world.drop("1.dcm", image(1))
        wait_until(lambda: viewing.row() and viewing.is_settled_after(0), 40)
        before = viewing.look()
        with viewing.watched():
            viewing.world.drop("patient.dcm", image(9, patient="OTHER-9"))
            wait_until(viewing.world.failures, 40)
            viewing.world.drop("twice/2.dcm", image(2))
            viewing.world.drop("twice/3.dcm", image(3))
            wait_until(lambda: len(viewing.world.done()) == 3, 40)
            wait_until(lambda: viewing.is_settled_after(before.revision), 40)
    assert viewing.world.reasons() == {"patient.dcm": "patient-id-differs"}
    last = max(viewing.world.processed.rglob("*.dcm"), key=lambda path: path.stat().st_ctime_ns)
    look = viewing.look()
    assert (look.pixels, look.metadata) == (last.read_bytes()[-1],) * 2
    assert 9 not in {each.pixels for each in viewing.looks}
    assert viewing.row()["patient_id"] == "SAMPLE-1"
