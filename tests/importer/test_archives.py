"""The importer into the embedded archive and into a real Orthanc."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydantic import SecretStr

from demo.archive.server import running
from pacs.archive.dicomweb import DicomWebArchive
from pacs.ids import Uid
from support.corpus import instance_bytes, sample_uid
from support.importing import NORTH, World, wait_until
from support.orthanc import orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["orthanc"]
pytestmark = pytest.mark.xdist_group("importer-archives")


@pytest.fixture(params=["embedded", "orthanc"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Where the archive is."""
    if request.param == "orthanc":
        server = request.getfixturevalue("orthanc")
        yield {
            "archive_url": server.dicomweb_url,
            "archive_username": server.username,
            "archive_password": SecretStr(server.password),
        }
        return
    with running(tmp_path / "archive", username="importer", password="secret") as archive:
        yield {
            "archive_url": archive.url,
            "archive_username": "importer",
            "archive_password": SecretStr("secret"),
        }


def seed_of(options: dict[str, Any], name: str) -> str:
    """UIDs of the test's own: one Orthanc serves them all."""
    return f"importer {options['archive_username']} {name}"


def test_studies_arrive_whole(world: World, options: dict[str, Any]) -> None:
    seed = seed_of(options, "whole")
    world.options |= options
    dropped = {}
    for modality in ("CT", "MR", "CR", "US", "SR", "PDF"):
        for number in (1, 2):
            name = f"{modality}/{number}.dcm"
            dropped[name] = world.drop(name, seed=seed, modality=modality, instance_number=number, size=32)
    with world.running() as importer:
        wait_until(lambda: world.done() == dropped)
        wait_until(lambda: (world.study(sample_uid(seed, "study")) or {})["instance_count"] == 12)
        wait_until(lambda: importer.outcomes == {"stored": 12})
    row = world.study(sample_uid(seed, "study"))
    assert row
    assert row["series_count"] == 6
    assert row["modalities"] == "\\CR\\CT\\DOC\\MR\\SR\\US\\"
    assert row["marked"] == row["refreshed"]


def test_the_clinic_is_in_the_archive_and_a_corrected_image_replaces_the_old_one(
    world: World, options: dict[str, Any]
) -> None:
    seed = seed_of(options, "corrected")
    world.options |= options
    study, series = Uid(sample_uid(seed, "study")), Uid(sample_uid(seed, "series", "CT"))
    with world.running():
        for text in ("first", "corrected"):
            world.drop("a.dcm", seed=seed, description=text, size=32)
            wait_until(lambda: not world.waiting())
    assert len(world.done()) == 2
    archive = DicomWebArchive(world.settings())
    try:
        header = archive.first_instance_metadata(study, series)
        assert header
        assert header["00080080"]["Value"] == [NORTH]
        instance = archive._client.retrieve_instance(
            study, series, sample_uid(seed, "instance", "CT", series, 1)
        )
        assert instance.StudyDescription == "corrected"
    finally:
        archive.close()


def test_a_file_that_the_archive_cannot_read_fails_alone(world: World, options: dict[str, Any]) -> None:
    """Our reader passes values over; the archive's may not: whatever it says, the others are stored."""
    seed = seed_of(options, "unreadable")
    world.options |= options
    good = {f"{n}.dcm": world.drop(f"{n}.dcm", seed=seed, instance_number=n, size=32) for n in range(5)}
    odd = pydicom.dcmread(BytesIO(instance_bytes(seed=seed, instance_number=9, size=32)))
    odd.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.50")
    odd.PixelData = pydicom.encaps.encapsulate([b"this is no JPEG"])
    odd["PixelData"].VR = "OB"
    target = BytesIO()
    odd.save_as(target)
    world.drop("odd.dcm", target.getvalue())
    with world.running():
        wait_until(lambda: not world.waiting())
    assert good.items() <= world.done().items()
    assert len(world.done()) + len(world.failures()) == 6
