"""A transfer that is broken off: at a few points in `make test`, at all of them in `make chaos`."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from pydicom import dcmread

from admin import transfer
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import Catalog, ownership
from pacs.catalog.ownership import Granted, Refusal
from pacs.catalog.schema import studies
from support.filed import Failing, Referral, claim_of, platform
from support.site import NORTH, NOW, SOUTH, Site

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from pacs.archive.dicomweb import DicomWebArchive

ONE = Referral("one")
STEPS = 16
"""How often an archive is asked in a transfer of `ONE`."""


def stored(archive: DicomWebArchive, study: Referral = ONE) -> dict[str, bytes]:
    """Every instance as the archive has it."""
    found = {}
    archived = archive.study(study.uid)
    for series_uid in archived.series_uids if archived else []:
        for sop_uid in archive.instance_uids(study.uid, series_uid):
            with archive.instance(study.uid, series_uid, sop_uid) as chunks:
                assert chunks is not None
                found[sop_uid] = b"".join(chunks)
    return found


def headers(archive: DicomWebArchive) -> list[FileDataset]:
    return [dcmread(BytesIO(each)) for each in stored(archive).values()]


def tags(archive: DicomWebArchive) -> set[tuple[str, int]]:
    """The clinics in the images, and how often they were tagged."""
    return {(ds.InstitutionName, len(ds.OriginalAttributesSequence)) for ds in headers(archive)}


def verdict(site: Site, content: bytes, clinic: Any) -> object:
    """What the catalog would say of a file."""
    with site.catalog.write() as connection:
        found = ownership.reserve(connection, claim_of(content, clinic), NOW)
        connection.rollback()
    return found


def break_off(site: Site, archive: DicomWebArchive, at: int, *, after: bool = False) -> None:
    broken = platform(site, Failing(archive, at, after=after))
    begun = transfer.begin(broken, ONE.uid, SOUTH)
    assert begun
    with pytest.raises(ArchiveUnavailableError):
        transfer.go_on(broken, begun.transfer)


def broken_off_it_goes_on(site: Site, archive: DicomWebArchive, at: int, *, after: bool) -> None:
    break_off(site, archive, at, after=after)
    assert [row["clinic_id"] for row in site.rows(studies)] == [SOUTH]
    assert verdict(site, ONE.file(1, 1), NORTH) is Refusal.STUDY_OWNED
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.WAIT
    site.done("transfer", *([ONE.uid] if at % 2 else []))
    assert tags(archive) == {(SOUTH, 2)}
    assert verdict(site, ONE.file(1, 1), SOUTH) is Granted.OWNED
    assert site.audited() == [("transfer", NORTH, True), ("transfer-finished", SOUTH, True)]


def lost_it_does_not_come_back(site: Site, archive: DicomWebArchive, at: int, empty_url: str) -> None:
    """`empty_url` is of the catalog that takes the place of the lost one."""
    break_off(site, archive, at)
    some_say_so = any(ds.InstitutionName == SOUTH for ds in headers(archive))
    site.env["DATABASE_URL"] = empty_url
    site.catalog = Catalog.open(SecretStr(empty_url))
    site.add_clinics()
    site.done("reindex")
    owners = [row["clinic_id"] for row in site.rows(studies)]
    site.catalog.close()
    # Before the first image says otherwise, nothing but the catalog knew of it.
    assert owners == ([SOUTH] if some_say_so else [NORTH])
