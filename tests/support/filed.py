"""Studies as the importer leaves them: stored with their clinic's mark, owned, and in the list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from admin.platform import Platform
from admin.settings import AdminSettings
from importer.dicom.part10 import read_instance
from pacs.archive import ArchiveUnavailableError
from pacs.catalog import ownership
from pacs.catalog.ownership import Claim, Granted
from pacs.ids import Uid
from pacs.refreshing import refresh
from support.corpus import instance_bytes, sample_uid
from support.dicom_files import opened, tag_bytes
from support.site import NOW, store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pacs.archive.dicomweb import DicomWebArchive
    from pacs.catalog import Catalog
    from pacs.ids import ClinicId
    from support.site import Site


@dataclass(frozen=True)
class Referral:
    """A study of two series with two images each, all of them small."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> Uid:
        return Uid(sample_uid("referral", self.name))

    def series(self, number: int) -> Uid:
        return Uid(sample_uid("referral", self.name, "series", number))

    def file(self, series: int, number: int, **more: Any) -> bytes:
        chosen = {
            "study_uid": self.uid,
            "series_uid": self.series(series),
            "sop_instance_uid": sample_uid("referral", self.name, series, number),
            "instance_number": number,
            "seed": (self.name, series, number),
        }
        return instance_bytes(**(chosen | self.options | more))

    def files(self) -> list[bytes]:
        return [self.file(series, number) for series in (1, 2) for number in (1, 2)]


def claim_of(content: bytes, clinic: ClinicId) -> Claim:
    with opened(content) as fd:
        header = read_instance(fd)
    return Claim(clinic, header.study_instance_uid, header.series_instance_uid, header.patient_id)


def file_study(
    catalog: Catalog, archive: DicomWebArchive, clinic: ClinicId, *contents: bytes, now: datetime = NOW
) -> None:
    """What the importer does with these files of one study."""
    claims = [claim_of(content, clinic) for content in contents]
    with catalog.write() as connection:
        for claim in claims:
            assert ownership.reserve(connection, claim, now) is Granted.OWNED
    store(archive, *(tag_bytes(content, clinic) for content in contents))
    refresh(catalog, archive, claims[0].study_uid, stable_age_seconds=0, busy=lambda: False, now=lambda: now)


def platform(site: Site, archive: Any) -> Platform:
    """The platform of a site as commands have it, with another archive."""
    settings = AdminSettings(
        data_path=site.data,
        database_url=SecretStr(str(site.env["DATABASE_URL"])),
        archive_stable_age_seconds=0,
    )
    made = Platform(settings)
    made.__dict__ |= {"archive": archive, "catalog": site.catalog}
    return made


@dataclass
class Failing:
    """An archive that falls silent when it is asked for the `at`-th time by one of these methods."""

    archive: DicomWebArchive
    at: int
    methods: frozenset[str] = frozenset({"study", "instance_uids", "instance", "store"})
    after: bool = False
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.archive, name)
        return self._guarded(method) if name in self.methods else method

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            self.asked += 1
            if self.asked < self.at:
                return method(*arguments, **options)
            if self.after and self.asked == self.at:
                # All is done, and the answer is lost.
                method(*arguments, **options)
            raise ArchiveUnavailableError("interrupted")

        return ask
