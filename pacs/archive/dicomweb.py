"""The archive over DICOMweb: dicomweb-client to search and read, `StowClient` to store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient

from pacs.archive import listing
from pacs.archive.model import ArchivedStudy, DicomJson, ListedStudy, is_dataset, uid
from pacs.archive.protocol import ArchiveUnavailableError, Lister, Part
from pacs.archive.stow import StowClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pacs.archive.model import StoreAnswer
    from pacs.ids import Uid
    from pacs.settings import ArchiveSettings

_NOT_FOUND = 404
# Whatever else is said where Orthanc's REST root would be: it is something else.
_SAYS_NOTHING_AT_ALL = frozenset({"unreachable", "timeout"})
# Not every archive has a REST root beside DICOMweb, and not every user may read it.
_SAYS_NOTHING = frozenset({403, 404})
# PS3.18 table 10.6.3-3, and what study lists show besides. Not SpecificCharacterSet: Orthanc 1.10.1 tells
# it anyway, and answers 400 to who asks for it of a study with more than one (measured).
_STUDY_FIELDS = [
    "00080020",  # StudyDate
    "00080030",  # StudyTime
    "00080050",  # AccessionNumber
    "00080080",  # InstitutionName: the clinic
    "00080090",  # ReferringPhysicianName
    "00081030",  # StudyDescription
    "00100010",  # PatientName
    "00100020",  # PatientID
    "00100030",  # PatientBirthDate
    "00100040",  # PatientSex
    "00200010",  # StudyID
]
_SERIES_FIELDS = ["00080060", "0020000E", "00201209"]


class DicomWebArchive:
    """`pacs.archive.Archive` for any DICOMweb server; Orthanc's REST root is used where it is one."""

    def __init__(self, settings: ArchiveSettings, *, connections: int = 4) -> None:
        password = settings.archive_password.get_secret_value()
        self._session = requests.Session()
        self._session.max_redirects = 0
        self._session.trust_env = False
        if settings.archive_username:
            self._session.auth = (settings.archive_username, password)
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=connections)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)
        self._timeout = settings.archive_timeout_seconds
        self._url = settings.archive_url
        self._client = DICOMwebClient(self._url, session=self._session, timeout=self._timeout)
        self._client.set_http_retry_params(retry=False)
        self._stow = StowClient(
            self._url,
            username=settings.archive_username,
            password=password,
            timeout=self._timeout,
            connections=connections,
        )

    def store(self, parts: Sequence[Part]) -> StoreAnswer:
        """See `pacs.archive.Archive`."""
        return self._stow.store(parts)

    def study(self, study_uid: Uid) -> ArchivedStudy | None:
        """See `pacs.archive.Archive`."""
        found = self._search(
            lambda: self._client.search_for_studies(
                search_filters={"StudyInstanceUID": study_uid}, fields=_STUDY_FIELDS
            ),
            # PS3.18 section 10.6.3.1 knows no 404 here: it is a proxy's, and the study may well be there.
            absent=frozenset(),
        )
        if not found:
            return None
        # An archive, or a proxy before it, that ignores the filter would answer with other studies.
        found = [each for each in found if uid(each, "0020000D") == study_uid]
        if not found:
            raise ArchiveUnavailableError("not-dicom-json")
        series = self._search(lambda: self._client.search_for_series(study_uid, fields=_SERIES_FIELDS))
        return ArchivedStudy(study_uid, found[0], tuple(series)) if series else None

    def study_uids(self, page: int = 1000) -> Iterator[Uid]:
        """See `pacs.archive.Archive`."""
        offset = 0
        while True:
            found = self._uids(offset, page)
            yield from (study_uid for each in found if (study_uid := uid(each, "0020000D")))
            if len(found) < page:
                return
            offset += len(found)

    def _uids(self, offset: int, limit: int) -> list[DicomJson]:
        return self._search(
            lambda: self._client.search_for_studies(fields=["0020000D"], limit=limit, offset=offset),
            absent=frozenset(),
        )

    def lister(self) -> Lister:
        """See `pacs.archive.Archive`."""
        try:
            is_orthanc = listing.is_orthancs(self._orthanc(listing.path(0, 1)))
        except ArchiveUnavailableError as error:
            if error.reason in _SAYS_NOTHING_AT_ALL:
                raise
            is_orthanc = False
        return self._orthanc_page if is_orthanc else self._page

    def _page(self, offset: int, limit: int) -> list[ListedStudy | None]:
        try:
            found = self._search(
                lambda: self._client.search_for_studies(fields=_STUDY_FIELDS, limit=limit, offset=offset),
                absent=frozenset(),
            )
        except ArchiveUnavailableError as error:
            if error.reason not in listing.ABOUT_ONE_STUDY:
                raise
            # One study spoils the page: of each no more than that it is there.
            found = [{"0020000D": each.get("0020000D", {})} for each in self._uids(offset, limit)]
        return [
            ListedStudy(study_uid, each) if (study_uid := uid(each, "0020000D")) else None for each in found
        ]

    def _orthanc_page(self, offset: int, limit: int) -> list[ListedStudy | None]:
        try:
            return self._orthanc_list(listing.path(offset, limit))
        except ArchiveUnavailableError as error:
            if error.reason not in listing.ABOUT_ONE_STUDY:
                raise
            return self._orthanc_list(listing.path(offset, limit, counted=False))

    def _orthanc_list(self, path: str) -> list[ListedStudy | None]:
        found = listing.parse(self._orthanc(path))
        if found is None:
            raise ArchiveUnavailableError("not-dicom-json")
        return found

    def has_instance(self, study_uid: Uid, sop_instance_uid: Uid) -> bool:
        """See `pacs.archive.Archive`."""
        found = self._search(
            lambda: self._client.search_for_instances(
                study_uid, search_filters={"SOPInstanceUID": sop_instance_uid}, limit=1
            )
        )
        return any(uid(each, "00080018") == sop_instance_uid for each in found)

    def first_instance_metadata(self, study_uid: Uid, series_uid: Uid) -> DicomJson | None:
        """See `pacs.archive.Archive`."""
        listed = self._search(lambda: self._client.search_for_instances(study_uid, series_uid, limit=1))
        sop_instance_uid = uid(listed[0], "00080018") if listed else None
        if sop_instance_uid is None:
            return None
        found = self._search(
            lambda: [self._client.retrieve_instance_metadata(study_uid, series_uid, sop_instance_uid)]
        )
        return found[0] if found else None

    def overwrites(self) -> bool | None:
        """See `pacs.archive.Archive`; Orthanc tells it under /system beside its DICOMweb root."""
        told = self._orthanc("system")
        said = told.get("OverwriteInstances") if isinstance(told, dict) else None
        return said if isinstance(said, bool) else None

    def _orthanc(self, path: str) -> Any:
        """What Orthanc's REST root answers; None where there is none, or none for this user."""
        parts = urlsplit(self._url)
        url = f"{parts.scheme}://{parts.netloc}/{path}"
        try:
            answer = self._session.get(url, timeout=self._timeout)
            if answer.status_code in _SAYS_NOTHING:
                return None
            answer.raise_for_status()
            return answer.json()
        except requests.JSONDecodeError:
            return None
        except requests.RequestException as error:
            raise ArchiveUnavailableError(_reason(error)) from None
        except (ValueError, RecursionError):
            # Numbers of thousands of digits, or lists in lists.
            raise ArchiveUnavailableError("not-dicom-json") from None

    def close(self) -> None:
        """Drop the connections."""
        self._session.close()
        self._stow.close()

    @staticmethod
    def _search(
        ask: Callable[[], list[Any]], absent: frozenset[int] = frozenset({_NOT_FOUND})
    ) -> list[DicomJson]:
        """What a search found; nothing, if its status is one of `absent`."""
        try:
            answer = ask()
        except requests.JSONDecodeError:
            raise ArchiveUnavailableError("not-dicom-json") from None
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in absent:
                return []
            raise ArchiveUnavailableError(_reason(error)) from None
        except requests.RequestException as error:
            raise ArchiveUnavailableError(_reason(error)) from None
        except (ValueError, RecursionError):
            raise ArchiveUnavailableError("not-dicom-json") from None
        if not isinstance(answer, list) or not all(is_dataset(each) for each in answer):
            raise ArchiveUnavailableError("not-dicom-json")
        return [listing.plausible(each) for each in answer]


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.TooManyRedirects):
        return "redirect"
    if isinstance(error, requests.Timeout):
        return "timeout"
    if isinstance(error, requests.ConnectionError):
        return "unreachable"
    if error.response is not None:
        return f"status-{error.response.status_code}"
    return "interrupted"
