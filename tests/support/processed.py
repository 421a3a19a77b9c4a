"""Files in processed as the importer files them, and the archive's copies, for tests to damage."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from support.corpus import instance_bytes
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


def flip(place: Path, offset: int = -1) -> None:
    """Change one byte of a file."""
    content = bytearray(place.read_bytes())
    content[offset] ^= 1
    place.write_bytes(content)
