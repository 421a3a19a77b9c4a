"""Files in processed as the importer files them, the archive's copies to damage, and what `verify` says."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, dcmread

from pacs.catalog import verifications
from support.corpus import instance_bytes, to_bytes
from support.dicom_files import tag_bytes
from support.site import DAY, NORTH, Site, store

if TYPE_CHECKING:
    from pathlib import Path

    from pacs.archive.dicomweb import DicomWebArchive
    from pacs.ids import ClinicId


def put(site: Site, path: str, content: bytes, clinic: ClinicId = NORTH, day: str = DAY) -> Path:
    """Only file it."""
    place = site.data / "processed" / clinic / day / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def imported(
    site: Site, archive: DicomWebArchive, path: str, content: bytes | None = None, **where: Any
) -> Path:
    """Store it as the importer does, and file it; `where` is as of `put`."""
    if content is None:
        content = instance_bytes(seed=path)
    store(archive, tag_bytes(content, where.get("clinic", NORTH)))
    return put(site, path, content, **where)


def in_archive(site: Site, content: bytes) -> Path:
    """The file of the embedded archive that holds this instance."""
    ds = dcmread(BytesIO(content), stop_before_pixels=True)
    folder = site.data / "dicom" / "instances" / ds.StudyInstanceUID / ds.SeriesInstanceUID
    return folder / f"{ds.SOPInstanceUID}.dcm"


def with_history(content: bytes, *, items: int = 1, undefined: bool = True) -> bytes:
    """The instance as other systems left it, that wrote items of their own."""
    ds = dcmread(BytesIO(content))
    history = [Dataset() for _ in range(items)]
    for number, item in enumerate(history):
        item.ModifyingSystem = f"ELSEWHERE {number}"
    ds.OriginalAttributesSequence = history
    ds["OriginalAttributesSequence"].is_undefined_length = undefined
    ds.InstitutionName = "Sample"
    return to_bytes(ds)


def flip(place: Path, offset: int = -1) -> None:
    """Change one byte of a file."""
    content = bytearray(place.read_bytes())
    content[offset] ^= 1
    place.write_bytes(content)


def told(site: Site, *arguments: str, exit_code: int = 0) -> list[dict[str, Any]]:
    """What `clinicpacs verify` says, in its own order."""
    result = site.run("verify", "--json", *arguments)
    assert result.exit_code == exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def listed(site: Site, *arguments: str, exit_code: int = 0) -> dict[str, str]:
    """Each listed file with its outcome and what is said of it."""
    return {
        f"{each['day']}/{each['path']}": " ".join((each["outcome"], each["detail"])).strip()
        for each in told(site, *arguments, exit_code=exit_code)
        if "outcome" in each
    }


def recorded(site: Site) -> dict[str, tuple[int, int, int]]:
    """The last verification of each clinic: files, missing, different."""
    with site.catalog.read() as connection:
        return {
            each.clinic_id: (each.files, each.missing, each.different)
            for each in verifications.last(connection)
        }
