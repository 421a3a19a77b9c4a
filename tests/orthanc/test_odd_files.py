"""What breaks a rule and is stored comes into both Orthancs under the very ids that the importer reserved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import requests

from support.dicom_files import identifiers, read_bytes, tag_bytes
from support.odd_files import ODD
from support.orthanc import PASSWORDS
from support.site import store

if TYPE_CHECKING:
    from pacs.archive.dicomweb import DicomWebArchive
    from support.orthanc import Orthanc


def _orthanc_id(header: dict[str, str]) -> str:
    """Orthanc names an instance by a hash of its four identifiers."""
    keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    name = hashlib.sha1("|".join(header[key] for key in keys).encode(), usedforsecurity=False).hexdigest()
    return "-".join(name[start : start + 8] for start in range(0, 40, 8))


def test_odd_files_are_stored_under_their_ids(archive: DicomWebArchive, server: Orthanc) -> None:
    for content in ODD.values():
        store(archive, tag_bytes(content))
    url, auth = f"{server.url}/instances", ("admin", PASSWORDS["admin"])
    there = set(requests.get(url, auth=auth, timeout=30).json())
    missing = {what for what in ODD if _orthanc_id(identifiers(read_bytes(ODD[what]))) not in there}
    assert not missing
